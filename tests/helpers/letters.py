"""A tokenizer for the tiny model's 96 tokens: the printable letters of ASCII, and an end."""

FIRST = 32
END = 95


class Letters:
    """One token per letter."""

    def encode(self, text):
        return [ord(letter) - FIRST for letter in text]

    def decode(self, ids):
        return "".join("<end>" if token == END else chr(token + FIRST) for token in ids)


LETTERS = Letters()
