"""Text <-> token ids, on the ``tokenizers`` package."""

from gptj.tokenizer.tokenizer import GPTJTokenizer

__all__ = ["GPTJTokenizer"]
