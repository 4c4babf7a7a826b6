"""GPT-J in PyTorch."""
