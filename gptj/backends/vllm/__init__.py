"""GPT-J in vLLM, which serves a causal language model."""
