"""Tokenizers for the tiny model's 96 tokens: the printable letters of ASCII, and an end."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from gptj.tokenizer import GPTJTokenizer

FIRST = 32
END = 95
PREFIX = "<|endoftext|>"


class Letters:
    """One token per letter."""

    def encode(self, text):
        return [ord(letter) - FIRST for letter in text]

    def decode(self, ids):
        return "".join("<end>" if token == END else chr(token + FIRST) for token in ids)


LETTERS = Letters()


def letters_tokenizer():
    """Return the same as a `GPTJTokenizer`, whose end is `PREFIX`."""
    table = Tokenizer(models.WordLevel({chr(FIRST + token): token for token in range(END)}, "~"))
    table.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    table.decoder = decoders.Fuse()
    return GPTJTokenizer(table, bos_token=PREFIX, eos_token=PREFIX)
