"""Bits per byte of a model and of gzip on the same texts."""

import gzip
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj import GPTJForCausalLM, GPTJTokenizer

STRIDE: Final = 256
"""Tokens that a full window scores, after as many that are only context."""


@dataclass(frozen=True)
class Score:
    """A model's score on one text."""

    path: str
    bytes: int
    tokens: int
    nats: float  # the sum over all tokens


def bits_per_byte(scores: Iterable[Score]) -> float:
    """Return the model's bits per byte of text."""
    scores = list(scores)
    return sum(s.nats for s in scores) / math.log(2) / sum(s.bytes for s in scores)


def nats_per_token(scores: Iterable[Score]) -> float:
    """Return the mean loss."""
    scores = list(scores)
    return sum(s.nats for s in scores) / sum(s.tokens for s in scores)


def gzip_bits_per_byte(texts: Iterable[bytes]) -> float:
    """Return the bits per byte of ``gzip -9`` on all texts as one stream."""
    whole = b"".join(texts)
    return 8 * len(gzip.compress(whole, 9)) / len(whole)


def score(model: GPTJForCausalLM, tokenizer: GPTJTokenizer, path: str, text: bytes) -> Score:
    """Score every token of a text once, the first after an end-of-text token."""
    ids = [tokenizer.eos_token_id, *tokenizer(text.decode())["input_ids"]]
    nats = sum(losses(model, torch.tensor(ids)))
    return Score(path, len(text), len(ids) - 1, nats)


@torch.no_grad()
def losses(model: GPTJForCausalLM, ids: Tensor) -> Iterator[float]:
    """Yield the summed losses of ids[1:], window by window, over the whole vocabulary."""
    context, scored = model.config.n_positions, 1
    while scored < len(ids):
        end = min(len(ids), scored + (STRIDE if scored > 1 else context))
        window = ids[max(0, end - 1 - context) : end]
        keep = end - scored
        logits = model(window[None, :-1], logits_to_keep=keep, use_cache=False).logits[0]
        yield F.cross_entropy(logits, window[-keep:], reduction="sum").item()
        scored = end
