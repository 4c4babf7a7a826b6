"""Match the tensors of a file to the parameters of a head, and name every difference."""

import logging
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from gptj.checkpoint.causal_masks import LEGACY_BUFFERS, prefix_masks
from gptj.checkpoint.differences import describe_differences
from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, HEADS
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.quantization import SCALE
from gptj.spec.tensors import LazyTensor, Tensors

_BASE_NAME: Final = re.compile(r"(wte|h\.\d+|ln_f)\.")

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class Match:
    """How the tensors of a file match the parameters of a head.

    Attributes:
        table: the parameters of the head.
        found: the file's tensors by their names in this head.
        new: values drawn for a head that the file lacks entirely.
        missing, unexpected, misshapen, mistyped: what does not fit; the last two say what was
            found and what is needed.
        buffers: causal masks of old checkpoints, which are not parameters.
    """

    table: dict[str, Parameter]
    found: dict[str, LazyTensor]
    new: dict[str, LazyTensor]
    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, str]
    mistyped: dict[str, str]
    buffers: dict[str, LazyTensor]

    def differences(self) -> dict[str, list[str]]:
        """Return every mismatch by its kind."""
        return {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": list(self.misshapen.values()),
            "of another dtype": list(self.mistyped.values()),
        }


def match_parameters(
    config: GPTJConfig,
    head: str,
    tensors: Tensors,
    source: str,
    *,
    ignore_mismatched_sizes: bool = False,
) -> Tensors:
    """Return the parameters of a head by canonical name.

    The base model's names may have their prefix or not. Tensors of another head are dropped; when
    a head's own tensors are all missing, as in the checkpoint of a base model, they are drawn and a
    warning says so. Old buffers are dropped; a mask that is not causal causes a warning.

    Args:
        ignore_mismatched_sizes: draw tensors of another shape, with a warning, instead of failing.

    Raises:
        CheckpointError: naming every tensor that is missing, unexpected or of another shape.
    """
    match = compare(config, head, tensors, source)
    resized = list(match.misshapen) if ignore_mismatched_sizes else []
    misshapen = [text for name, text in match.misshapen.items() if name not in resized]
    differences = match.differences() | {"of another shape": misshapen}
    if any(differences.values()):
        listed = {what: sorted(names) for what, names in differences.items()}
        raise CheckpointError(
            f"{source} does not fit a GPT-J with the head {head!r}. Tensors "
            f"{describe_differences(listed)}. Check that config.json belongs to these weights, and "
            "that they are GPT-J's."
        )
    if match.new:
        names = ", ".join(match.new)
        log.warning("%s has no %s head: drew new values for %s.", source, head, names)
    if resized:
        names = ", ".join(resized)
        log.warning("%s has other shapes: drew new values for %s.", source, names)
    _warn_of_masks(match.buffers, source)
    new = match.new | {name: _drawn(match.table[name], config) for name in resized}
    return {name: new.get(name) or match.found[name] for name in match.table}


def _warn_of_masks(buffers: Tensors, source: str) -> None:
    masks = prefix_masks(buffers)
    if masks:
        log.warning(
            "%s was trained with masks that are not causal (%s and %d more), like models that see "
            "their prompt both ways. Here the causal mask is applied: the text will be another.",
            source,
            masks[0],
            len(masks) - 1,
        )


def compare(config: GPTJConfig, head: str, tensors: Tensors, source: str) -> Match:
    """Return how tensors match the parameters of a head.

    Raises:
        CheckpointError: if a name occurs both with and without the base model's prefix.
    """
    table = parameter_table(config, head)
    buffers = {name: t for name, t in tensors.items() if LEGACY_BUFFERS.search(name)}
    others = {name: t for name, t in tensors.items() if name not in buffers}
    found = _with_canonical_names(others, HEADS[head].prefix, source)
    new = _new_head(config, table, found)
    known = {*table, *_names_of_other_heads()}
    return Match(
        table=table,
        found=found,
        new=new,
        missing=[name for name in table if name not in found and name not in new],
        unexpected=[name for name in found if name not in known],
        misshapen={
            name: f"{name} is {tensor.shape}, needed is {table[name].shape}"
            for name, tensor in found.items()
            if name in table and tensor.shape != table[name].shape
        },
        mistyped={
            name: f"{name} is {tensor.dtype}, needed is {table[name].dtype}"
            for name, tensor in found.items()
            if name in table and table[name].dtype not in (None, str(tensor.dtype))
        },
        buffers=buffers,
    )


def _with_canonical_names(tensors: Tensors, prefix: str, source: str) -> dict[str, LazyTensor]:
    """Rename the base model's tensors as the head names them."""
    twice = [name for name in tensors if BASE_PREFIX + name in tensors]
    if twice:
        both = ", ".join(f"both {name} and {BASE_PREFIX}{name}" for name in sorted(twice))
        raise CheckpointError(f"{source} holds {both}: which of them is meant is not clear.")
    bare = {name: name.removeprefix(BASE_PREFIX) for name in tensors}
    return {
        prefix + bare[name] if _BASE_NAME.match(bare[name]) else name: tensor
        for name, tensor in tensors.items()
    }


def _new_head(
    config: GPTJConfig, table: dict[str, Parameter], found: Tensors
) -> dict[str, LazyTensor]:
    """Return drawn values for a head's own parameters if the checkpoint has none of them."""
    own = [name for name in table if not _BASE_NAME.match(name.removeprefix(BASE_PREFIX))]
    if any(name in found for name in own):
        return {}
    return {name: _drawn(table[name], config) for name in own}


def _drawn(parameter: Parameter, config: GPTJConfig) -> LazyTensor:
    dtype = np.dtype(parameter.dtype or np.float32)
    return LazyTensor(parameter.shape, dtype, lambda: initial_value(parameter, config))


def _names_of_other_heads() -> set[str]:
    """Return the names of every head's own parameters, including a tied head's copy."""
    modules = [module for head in HEADS.values() for module in head.modules]
    parts = ("weight", f"weight{SCALE}", "bias")
    return {f"{module}.{part}" for module in modules for part in parts}
