"""Greedy texts of a runtime, checked by the oracle in one pass.

A token is the right one if, after the tokens before it, it is the oracle's most likely. Up to the
first that is not, the text is the one that the oracle would write.
"""

from typing import Any, Final

import numpy as np

from gptj.exporting.cases import SEED
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import forward

TEXTS, PROMPT, NEW = 12, 8, 16
"""Texts, tokens of a prompt, and tokens that follow."""

Numbers = dict[str, Any]

ENDED: Final = -1
"""What a runtime may return for tokens after an end token."""


def compare_texts(source: Source, runner: Runner) -> Numbers | None:
    """Return how many greedy texts are the oracle's, and of each other one the first difference.

    Its `margin` is how much larger the oracle's logit of its own token is than that of the other
    one: rounding decides where it is near zero. None where the runtime generates no text.
    """
    prompts, count = make_prompts(source.config)
    found = runner.greedy(prompts, count)
    if found is None:
        return None
    texts = np.hstack((prompts, np.where(found == ENDED, 0, found)))
    output = forward(source.config, source.tensors, head=source.head, input_ids=texts)
    logits = output.logits[:, prompts.shape[1] - 1 : -1]
    rows = [_first_difference(row, found[row], logits[row], source) for row in range(len(found))]
    differences = [row for row in rows if row is not None]
    return {
        "equal": len(found) - len(differences),
        "of": len(found),
        "prompt_tokens": prompts.shape[1],
        "new_tokens": count,
        "differences": differences,
    }


def make_prompts(config: GPTJConfig) -> tuple[Ints, int]:
    """Return prompts (N, T), and how many tokens are to follow."""
    generator = np.random.Generator(np.random.PCG64(SEED + 1))
    length = min(PROMPT, max(1, config.n_positions // 2))
    ids = generator.integers(0, config.vocab_size, (TEXTS, length))
    return ids, min(NEW, config.n_positions - length)


def _first_difference(row: int, found: Ints, logits: Floats, source: Source) -> Numbers | None:
    """Return where a text leaves the oracle's, None if it does not up to its end token."""
    ends = np.atleast_1d(
        np.asarray([] if source.config.eos_token_id is None else source.config.eos_token_id)
    )
    for step, token in enumerate(found):
        right = int(logits[step].argmax())
        if token != right:
            margin = float(logits[step, right] - logits[step, max(token, 0)])
            return {
                "text": row,
                "token": step,
                "found": int(token),
                "oracle": right,
                "margin": margin,
            }
        if token in ends:
            return None
    return None
