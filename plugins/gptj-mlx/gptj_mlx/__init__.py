"""GPT-J in MLX: a backend that gptj finds through its entry point."""
