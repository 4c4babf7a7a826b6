"""The tokens of a ggml file: their bytes, one token for every row of the word table."""

import json
import logging
from collections.abc import Mapping, Sequence
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.stored_numbers import read_size
from gptj.errors import TokenizerError, brief
from gptj.spec.vocabulary import byte_table
from gptj.system.json_files import read_json

BYTES: Final = {character: byte for byte, character in byte_table().items()}
"""Character of the byte-level alphabet -> byte."""

log = logging.getLogger("gptj")


def tokens_of(folder: Path, count: int, earlier: Sequence[bytes]) -> list[bytes]:
    """Return the bytes of `count` tokens, in order of ids.

    They are those of the tokenizer's files in a folder. Without files they are the earlier ones,
    those of the file that the weights are from. Other rows get placeholders, unlike all tokens.

    Raises:
        TokenizerError: for files that cannot be read, or have no vocabulary.
    """
    known = _known(folder)
    if known is None:
        known = dict(enumerate(earlier))
    beyond = sum(index >= count for index in known)
    if beyond:
        log.warning(
            "The tokenizer has %s tokens more than the vocabulary of %s: the ggml file lacks them.",
            beyond,
            count,
        )
    taken = set(known.values())
    return [
        known[index] if index in known else _placeholder(index, taken) for index in range(count)
    ]


def _known(folder: Path) -> dict[int, bytes] | None:
    """Return id -> bytes of the tokenizer in a folder; None if there is none."""
    complete, pair = folder / "tokenizer.json", folder / "vocab.json"
    if lexists(complete):
        content = read_json(complete, TokenizerError)
        model = content.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        is_byte_level = '"ByteLevel"' in json.dumps(content.get("decoder"))
        added = content.get("added_tokens") or []
        more = [(t.get("content"), t.get("id")) for t in added if isinstance(t, dict)]
    elif lexists(pair):
        vocabulary, is_byte_level = read_json(pair, TokenizerError), True
        path = folder / "added_tokens.json"
        more = list(read_json(path, TokenizerError).items()) if lexists(path) else []
    else:
        return None
    if not isinstance(vocabulary, dict):
        raise TokenizerError(
            f"{folder} has a tokenizer without a table from tokens to ids, which a ggml file needs."
        )
    added = {_checked(index, token): str(token).encode("utf-8", "replace") for token, index in more}
    return added | token_bytes(vocabulary, is_byte_level)  # which also spells added ones of it


def token_bytes(vocabulary: Mapping[str, Any], is_byte_level: bool = True) -> dict[int, bytes]:
    """Return id -> bytes from token -> id; the byte-level alphabet is undone.

    Raises:
        TokenizerError: for what is no id.
    """
    return {
        _checked(index, token): bytes(map(BYTES.__getitem__, token))
        if is_byte_level and BYTES.keys() >= set(token)
        else token.encode("utf-8", "replace")
        for token, index in vocabulary.items()
    }


def _checked(index: object, token: object) -> int:
    try:
        return read_size(index)
    except ValueError as error:
        raise TokenizerError(f"The token {brief(token)} has no id: {error}.") from error


def _placeholder(index: int, taken: set[bytes]) -> bytes:
    """Return a token that no other one is."""
    token = f"<|unused_{index}|>".encode()
    while token in taken:
        token += b"_"
    return token
