"""GPT-J in Flax."""
