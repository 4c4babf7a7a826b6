"""Texts as sequences of tokens, and what a head says of each, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.contract.model import Model
from gptj.errors import InputError, TokenOutOfRange
from gptj.generation.text import batch_indices
from gptj.scoring.windows import padded_length
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput
from gptj.system.progress import progress_bar
from gptj.tokenizer import GPTJTokenizer


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text.

    Attributes:
        ids: their ids.
        offsets: for each its first character in the text, and the one behind its last.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


def encode(
    tokenizer: GPTJTokenizer, texts: Sequence[str], vocab_size: int, what: str = "Text"
) -> list[Tokens]:
    """Return the tokens of texts; errors name a text by `what` and its place among the texts.

    Raises:
        InputError: for an empty text.
        TokenOutOfRange: for a token that the model does not have.
    """
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    encoded = [
        Tokens(ids, offsets)
        for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
    for number, tokens in enumerate(encoded):
        if not tokens.ids:
            raise InputError(f"{what} {number} is empty. Give some text, or leave it out.")
        if max(tokens.ids) >= vocab_size:
            raise TokenOutOfRange(
                f"{what} {number} has the token id {max(tokens.ids)}; the model's vocabulary has 0 "
                f"to {vocab_size - 1}. Give the tokenizer that the model was trained with."
            )
    return encoded


def run(
    backend: Backend,
    model: Model,
    sequences: Sequence[Sequence[int]],
    batch_size: int,
    names: Sequence[str],
) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Return some fields of the model's output for every sequence, each without the batch's axis.

    What has a place per token is as wide as the padded batch: a sequence's own tokens come first.

    Args:
        backend: an object that fulfils ``gptj.backends.base.Backend``.
        model: its model.
        sequences: token ids that the model knows, none longer than its context.
        batch_size: sequences per batch; sequences of similar length share one.
        names: the fields.
    """
    found: dict[int, dict[str, npt.NDArray[np.float32]]] = {}
    with progress_bar(len(sequences), "text", "Predicting", delay=2) as bar:
        for batch in batch_indices(sequences, batch_size):
            output = _forward(backend, model, [sequences[index] for index in batch])
            fields = {name: backend.to_numpy(output[name]) for name in names}
            for place, index in enumerate(batch):
                found[index] = {name: field[place] for name, field in fields.items()}
            bar.update(len(batch))
    return [found[index] for index in range(len(sequences))]


def _forward(backend: Backend, model: Model, sequences: Sequence[Sequence[int]]) -> ModelOutput:
    """Run sequences that are padded on the right, as in training."""
    width = padded_length(max(map(len, sequences)), model.config.n_positions)
    ids, mask = np.zeros((2, len(sequences), width), np.int64)
    for number, sequence in enumerate(sequences):
        ids[number, : len(sequence)] = sequence
        mask[number, : len(sequence)] = 1
    with already_checked():  # every id was checked when the text was encoded
        output: ModelOutput = backend.forward(
            model,
            input_ids=backend.from_numpy(ids, model),
            attention_mask=backend.from_numpy(mask, model),
        )
    return output
