"""What an engine writes, token by token, beside the oracle's text and what its own prefill says."""

from typing import Any, Final, NamedTuple

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.generation.logits_pipeline import log_softmax
from gptj.generation.unknown_tokens import known_ends
from gptj.parity.greedy import Ints, continued, first_new, oracle_logits
from gptj.parity.target import Answer, Array, Engine
from gptj.parity.tolerances import rms
from gptj.tokenizer.tokenizer import GPTJTokenizer

LIMIT: Final = 3.0
"""Decoding may be so many times as far from the engine's own prefill as rounding is large."""


class Text(NamedTuple):
    """One text that an engine wrote, beside the same places as its prefill has them.

    Attributes:
        read: what it says of the oracle's new tokens in a prompt.
        wrote: what it wrote, which may end early.
        same: how many tokens are the oracle's.
    """

    read: Answer
    wrote: Answer
    same: int

    def is_the_oracles(self, expected: Ints, ends: tuple[int, ...]) -> bool:
        """Return whether all is as in the oracle's tokens, up to an end of the text."""
        ended = self.same == len(self.wrote.tokens)
        return self.same == len(expected) or (ended and int(expected[self.same]) in ends)

    def gap(self) -> Array:
        """Return by how much decoding is off the prefill, up to the first other token."""
        count = min(self.same + 1, len(self.wrote.tokens), len(self.read.best))
        return self.wrote.log_probs[:count] - self.read.best[:count]


def compare_engine_text(
    right: Computation, engine: Engine, ids: Ints, tokenizer: GPTJTokenizer | None
) -> dict[str, Any]:
    """Compare the text after the first tokens of `ids` (B, T) with the oracle's greedy one.

    Returns:
        ``text`` as `gptj.parity.greedy.compare_texts` has it, where ``found`` is None, as an engine
        spells its tokens, and ``margin`` is that over the oracle's next best token; ``prefill`` and
        ``decode``: errors of the new tokens' log-probabilities, in a prompt and as they are
        written, relative to the RMS of the oracle's; and ``apart``, of the two from each other.
    """
    oracle = oracle_logits(right)
    expected = continued(oracle, ids)
    start = first_new(expected)
    new, logits = expected[:, start:], oracle(expected)[:, start - 1 : -1]  # (B, new, V)
    true = log_softmax(logits).max(axis=-1)  # of the likeliest, which are the oracle's tokens
    texts = [_ask(engine, row, start) for row in expected]
    errors = {
        "prefill": [text.read.log_probs - t for text, t in zip(texts, true, strict=True)],
        "decode": [
            text.wrote.log_probs[: text.same] - t[: text.same]
            for text, t in zip(texts, true, strict=True)
        ],
        "apart": [text.gap() for text in texts],
    }
    ends = known_ends(right.config.eos_token_id, right.config.vocab_size)
    equal = [text.is_the_oracles(n, ends) for text, n in zip(texts, new, strict=True)]
    first = None if all(equal) else equal.index(False)
    return {
        "text": {
            "equal": sum(equal),
            "of": len(texts),
            "first": None if first is None else _first(first, texts, new, logits, tokenizer),
        },
        **{
            name: {"error": rms(np.concatenate(found)) / rms(true)}
            for name, found in errors.items()
        },
    }


def decoding_in_words(numbers: dict[str, Any], rounding: float) -> str | None:
    """Return what is wrong with an engine whose decoding is not its prefill, None if it is.

    Args:
        numbers: of `compare_engine_text`.
        rounding: the relative error that its dtype explains.
    """
    apart = numbers["apart"]["error"]
    if apart <= LIMIT * max(rounding, numbers["prefill"]["error"]):
        return None
    return (
        "The engine's prompts are right and its text is not: the tokens that it writes have "
        f"log-probabilities {apart:.2g} off those that it gives them in a prompt, relative to "
        "their RMS. Look at its key-value cache: its precision, where new keys and values are "
        "written, and the positions of the tokens that are decoded."
    )


def _ask(engine: Engine, expected: Ints, start: int) -> Text:
    """Let an engine read the oracle's text (T,), and write what follows its first tokens."""
    tokens, log_probs, best = engine.read(expected)  # from the second token on
    read = Answer(tokens[start - 1 :], log_probs[start - 1 :], best[start - 1 :])
    wrote = engine.write(expected[:start], len(expected) - start)
    pairs = list(zip(wrote.tokens, read.tokens, strict=False))
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))
    return Text(read, wrote, same)


def _first(
    row: int, texts: list[Text], new: Ints, logits: Array, tokenizer: GPTJTokenizer | None
) -> dict[str, Any]:
    place, wrote = texts[row].same, texts[row].wrote.tokens
    best, next_best = np.sort(logits[row, place])[:-3:-1]
    expected = int(new[row, place])
    known = {} if tokenizer is None else {"expected_text": tokenizer.decode([expected])}
    return {
        "row": row,
        "token": place,
        "expected": expected,
        **known,
        "found": None,
        "found_text": wrote[place] if place < len(wrote) else "the end of the text",
        "margin": float(best - next_best),
    }
