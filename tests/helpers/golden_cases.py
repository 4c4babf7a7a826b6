"""What another system computed from small checkpoints: transformers 4.56.2, PyTorch, float32.

Every folder of ``tests/golden`` holds a checkpoint with weights redrawn far from their initial
values, ``case.json`` with the calls (argument -> name of an array, or a flag), and ``case.npz``
with the arrays: ``in.NAME`` inputs, ``callI.FIELD`` outputs and ``genJ`` token ids.

Only attended positions are compared: what happens at padding differs between systems.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptj.spec.heads import HEADS
from paths import GOLDEN

NAMES = (
    "base",
    "causal_lm",
    "causal_lm_silu",
    "causal_lm_tied",
    "seqcls_single",
    "seqcls_multi",
    "seqcls_regression",
    "qa",
)
HEAD_OF_CLASS = {head.class_name: head.name for head in HEADS.values()}
POOLED = ("sequence_classification", "logits")
"""The one field of the one head that has no axis of positions."""


@dataclass(frozen=True)
class GoldenCase:
    """One call of a model.

    Attributes:
        name: what it is, for the name of a test.
        folder: its checkpoint, with a ``config.json``.
        head: the head of its model.
        inputs: the keyword arguments of the call: arrays, and flags such as `output_attentions`.
        attended: which positions mean anything, (B, T).
        expected: the results by name, as `select` gives them.
    """

    name: str
    folder: Path
    head: str
    inputs: Mapping[str, Any]
    attended: np.ndarray
    expected: Mapping[str, np.ndarray]

    def __str__(self):
        return self.name

    @property
    def arrays(self):
        """The inputs that are arrays, without the flags."""
        return {name: v for name, v in self.inputs.items() if isinstance(v, np.ndarray)}

    def select(self, output, name):
        """Return what `expected[name]` compares with: one result at the attended positions."""
        field, _, layer = name.partition(".")
        value = output[field]
        return attended_only(
            value[int(layer)] if layer else value, (self.head, field), self.attended
        )


@dataclass(frozen=True)
class GoldenGeneration:
    """One generation: its checkpoint, prompt, options, and the token ids, prompt included."""

    name: str
    folder: Path
    inputs: Mapping[str, np.ndarray]
    options: Mapping[str, Any]
    expected: np.ndarray

    def __str__(self):
        return self.name


def attended_only(value, field, attended):
    """Drop the positions that are padding; `field` is (head, name of the field)."""
    value = np.asarray(value)
    if value.ndim == 0 or field == POOLED:
        return value
    if field[1] == "attentions":  # (B, H, T, S)
        return value.swapaxes(1, 2)[attended]
    return value[attended]


def golden_cases():
    """Return every call of every golden checkpoint."""
    return [case for name in NAMES for case in _cases(name)]


def golden_generations(accepted=None):
    """Return every generation, or those whose options are all among the accepted names."""
    found = [generation for name in NAMES for generation in _generations(name)]
    return [g for g in found if accepted is None or set(g.options) <= set(accepted)]


def _load(name):
    content = json.loads((GOLDEN / name / "case.json").read_text(encoding="utf-8"))
    with np.load(GOLDEN / name / "case.npz") as file:
        return content, dict(file.items())


def _cases(name):
    content, arrays = _load(name)
    for number, call in enumerate(content["calls"]):
        inputs = {
            argument: arrays[f"in.{value['array']}"] if isinstance(value, dict) else value
            for argument, value in call.items()
        }
        shape = next(iter(inputs.values())).shape[:2]  # ids or embeddings
        attended = inputs.get("attention_mask", np.ones(shape)) != 0
        start, head = f"call{number}.", HEAD_OF_CLASS[content["class"]]
        expected = {
            key.removeprefix(start): attended_only(value, (head, key.split(".")[1]), attended)
            for key, value in arrays.items()
            if key.startswith(start)
        }
        given = "-".join(inputs)
        yield GoldenCase(
            name=f"{name}-{number}-{given}",
            folder=GOLDEN / name / "checkpoint",
            head=head,
            inputs=inputs,
            attended=attended,
            expected=expected,
        )


def _generations(name):
    content, arrays = _load(name)
    for number, call in enumerate(content["generate"]):
        options = dict(call)
        inputs = {
            argument: arrays[f"in.{options.pop(argument)}"]
            for argument in ("input_ids", "attention_mask")
            if argument in options
        }
        yield GoldenGeneration(
            name=f"{name}-{'-'.join(options)}",
            folder=GOLDEN / name / "checkpoint",
            inputs=inputs,
            options=options,
            expected=arrays[f"gen{number}"],
        )
