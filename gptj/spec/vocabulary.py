"""GPT-J's vocabulary: 256 bytes, 50,000 merges, the end-of-text token and 143 extra tokens.

Everything before the extra tokens is GPT-2's vocabulary, which its merges determine. The extra
tokens pad the embedding to a size that eight accelerator cores can share; the model never saw them
in training.
"""

from collections.abc import Iterable
from typing import Final

from gptj.errors import TokenizerError

EOS_TOKEN: Final = "<|endoftext|>"
EOS_TOKEN_ID: Final = 50_256

BYTE_COUNT: Final = 256
MERGE_COUNT: Final = 50_000
GPT2_VOCAB_SIZE: Final = 50_257
EXTRA_TOKEN_COUNT: Final = 143
VOCAB_SIZE: Final = 50_400

EXTRA_TOKENS: Final = {
    f"<|extratoken_{number}|>": EOS_TOKEN_ID + number for number in range(1, EXTRA_TOKEN_COUNT + 1)
}
"""The extra tokens and their ids, in order."""

Merge = tuple[str, str]


def byte_table() -> dict[int, str]:
    """Return the printable character that represents each byte, in order of token ids.

    Printable bytes represent themselves and come first. The others (controls, blanks and the soft
    hyphen) follow as characters from U+0100, so no token contains a blank.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(BYTE_COUNT)).difference(printable))
    table = {byte: chr(byte) for byte in printable}
    return table | {byte: chr(BYTE_COUNT + index) for index, byte in enumerate(hidden)}


def vocabulary(merges: Iterable[Merge]) -> dict[str, int]:
    """Return GPT-2's tokens and ids, which the merges determine.

    Raises:
        TokenizerError: unless there are 50,000 different merges, each of two earlier tokens.
    """
    tokens = [*byte_table().values()]
    known = set(tokens)
    for number, (left, right) in enumerate(merges, start=1):
        _check_merge(number, left, right, known)
        tokens.append(left + right)
        known.add(left + right)
    if len(tokens) != BYTE_COUNT + MERGE_COUNT:
        raise TokenizerError(
            f"GPT-2 has {MERGE_COUNT} merges, but {len(tokens) - BYTE_COUNT} were given: "
            "the merges file is cut short or belongs to another model."
        )
    return {token: index for index, token in enumerate([*tokens, EOS_TOKEN])}


def _check_merge(number: int, left: str, right: str, known: set[str]) -> None:
    unknown = [part for part in (left, right) if part not in known]
    if unknown:
        raise TokenizerError(
            f"Merge {number} joins {left!r} and {right!r}, but {unknown} come from no earlier "
            "merge: the merges must stand in the order in which they were learned."
        )
    if left + right in known:
        raise TokenizerError(
            f"Merge {number} makes {left + right!r} a second time: every merge makes a new token."
        )
