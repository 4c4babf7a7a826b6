"""Fine-tuning on files, the same in every framework: from text files to a model folder."""
