"""Files for the tests of data sets, and what they hold, read in the plainest way."""

import json
from functools import cache

from gptj.tokenizer import GPTJTokenizer


@cache
def tokenizer():
    """Return GPT-J's own tokenizer, made once."""
    return GPTJTokenizer()


END = 50_256


def ids_of(*texts):
    """Return the tokens of texts, each with the end-of-text token behind it."""
    rows = ([*tokenizer().encode(text), END] for text in texts)
    return [token for row in rows for token in row]


def write_lines(path, objects):
    """Write JSON lines, and return their path."""
    path.write_text("".join(json.dumps(value) + "\n" for value in objects), encoding="utf-8")
    return path
