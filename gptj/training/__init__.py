"""Fine-tuning on files, the same in every framework: from data to a folder that serves."""
