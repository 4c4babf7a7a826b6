"""From text to text: prompts into batches, tokens into pieces, stop strings cut off."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gptj.contract.tokenizer import Tokenizer
from gptj.errors import ArgumentError
from gptj.generation.option_rules import as_tuple
from gptj.generation.options import GenerationConfig
from gptj.generation.stopping import trim
from gptj.generation.streaming import GrowingText


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a prompt.

    Raises:
        ArgumentError: if there are none.
    """
    ids = tokenizer.encode(text)
    if not ids:
        raise ArgumentError(
            "The prompt is empty. Give some text, or '<|endoftext|>' to start from nothing."
        )
    return list(ids)


def batch_indices(sequences: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield the indices of sequences, `size` at a time, with similar lengths together."""
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad(sequences: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Return sequences of tokens as ids and mask, (B, T), padded on the left."""
    width = max(map(len, sequences))
    ids = np.array([[0] * (width - len(one)) + list(one) for one in sequences])
    mask = np.array([[0] * (width - len(one)) + [1] * len(one) for one in sequences])
    return ids, mask


def decode_text(tokens: Iterable[int], tokenizer: Tokenizer, options: GenerationConfig) -> str:
    """Return the text of new tokens, (new,), up to its end or the first stop string."""
    kept = []
    for token in tokens:
        if is_end(int(token), options):
            break
        kept.append(int(token))
    return trim(str(tokenizer.decode(kept)), as_tuple(options.stop_strings or ()))


def is_end(token: int, options: GenerationConfig) -> bool:
    """Return whether a token ends a text."""
    return options.eos_token_id is not None and token in as_tuple(options.eos_token_id)


def text_pieces(tokens: Iterable[int], tokenizer: Tokenizer, stops: Sequence[str]) -> Iterator[str]:
    """Yield a text as it grows, up to the first of the stop strings.

    What may be the beginning of one is held back until that is clear.
    """
    text, held = GrowingText(tokenizer), ""
    for token in tokens:
        held += text.add([token])
        if any(stop in held for stop in stops):
            break
        safe = len(held) - _overlap(held, stops)
        if safe > 0:
            yield held[:safe]
        held = held[safe:]
    else:
        held += text.rest()
    if last := trim(held, stops):
        yield last


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    return max(
        (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])),
        default=0,
    )
