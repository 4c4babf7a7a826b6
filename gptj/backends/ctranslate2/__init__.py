"""GPT-J in CTranslate2, which runs a converted causal language model."""
