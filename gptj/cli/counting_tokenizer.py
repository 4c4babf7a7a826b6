"""How many tokens a model has written, of which its texts no longer tell."""

from collections.abc import Sequence

import numpy as np

from gptj.contract.tokenizer import Tokenizer


class CountingTokenizer:
    """Encodes and decodes as another tokenizer does, and knows how many tokens a text was.

    Encoding the text again would not tell: "AAAA" is one token, but may be written as four.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin to watch a tokenizer."""
        self.tokenizer = tokenizer
        # by hash, because a stream decodes every beginning of a text that may be long
        self.sizes: dict[int, int] = {}

    def encode(self, text: str) -> Sequence[int]:
        """Return the tokens of a text."""
        return self.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, and remember how many they are."""
        text = str(self.tokenizer.decode(tokens))
        self.sizes[hash(text)] = np.size(tokens)
        return text

    def count(self, text: str) -> int:
        """Return how many tokens a text was; one that was cut at a stop string is encoded."""
        size = self.sizes.get(hash(text))
        return len(self.encode(text)) if size is None else size
