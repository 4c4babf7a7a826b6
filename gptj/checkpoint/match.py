"""From the names in a file to the parameters of a head: every difference is named at once."""

import logging
import re
from typing import Final

from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, HEADS
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors

LEGACY_BUFFERS: Final = re.compile(r"h\.\d+\.attn\.(masked_)?bias$")
"""Causal masks that old checkpoints carry; they are no parameters."""

_BASE_NAME: Final = re.compile(r"(wte|h\.\d+|ln_f)\.")

log = logging.getLogger("gptj")


def match_parameters(config: GPTJConfig, head: str, tensors: Tensors, source: str) -> Tensors:
    """Return the parameters of a head by canonical name.

    The base model's names may have their prefix or not. Tensors of another head are left out; when
    a head's own tensors are all missing, as in the checkpoint of a base model, they are drawn anew
    and one line says so.

    Raises:
        CheckpointError: naming every tensor that is missing, unexpected or of another shape.
    """
    table = parameter_table(config, head)
    found = _with_canonical_names(tensors, HEADS[head].prefix, source)
    new = _new_head(config, head, table, found)
    missing = [name for name in table if name not in found and name not in new]
    other = _names_of_other_heads()
    unexpected = [name for name in found if name not in table and name not in other]
    misshapen = [
        f"{name} is {tensor.shape}, needed is {table[name].shape}"
        for name, tensor in found.items()
        if name in table and tensor.shape != table[name].shape
    ]
    if missing or unexpected or misshapen:
        raise CheckpointError(_complaint(source, head, missing, unexpected, misshapen))
    if new:
        log.warning("%s has no %s head: drew new values for %s.", source, head, ", ".join(new))
    return {name: found.get(name) or new[name] for name in table}


def _with_canonical_names(tensors: Tensors, prefix: str, source: str) -> dict[str, LazyTensor]:
    """Rename the base model's tensors to the form of the head, and drop old buffers."""
    found: dict[str, LazyTensor] = {}
    twice = [name for name in tensors if BASE_PREFIX + name in tensors]
    if twice:
        both = ", ".join(f"both {name} and {BASE_PREFIX}{name}" for name in sorted(twice))
        raise CheckpointError(f"{source} holds {both}: which of them is meant is not clear.")
    for name, tensor in tensors.items():
        bare = name.removeprefix(BASE_PREFIX)
        if LEGACY_BUFFERS.search(name):
            continue
        found[prefix + bare if _BASE_NAME.match(bare) else name] = tensor
    return found


def _new_head(
    config: GPTJConfig, head: str, table: dict[str, Parameter], found: Tensors
) -> dict[str, LazyTensor]:
    """Return new values for a head's own parameters if the checkpoint has none of them."""
    own = [name for name in table if not _BASE_NAME.match(name.removeprefix(BASE_PREFIX))]
    if any(name in found for name in own):
        return {}
    return {name: LazyTensor.of(initial_value(table[name], config)) for name in own}


def _names_of_other_heads() -> set[str]:
    """Return the names of every head's own parameters, a tied head's copy among them."""
    modules = [module for head in HEADS.values() for module in head.modules]
    return {f"{module}.{part}" for module in modules for part in ("weight", "bias")}


def _complaint(
    source: str, head: str, missing: list[str], unexpected: list[str], misshapen: list[str]
) -> str:
    parts = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    return (
        f"{source} does not fit a GPT-J with the head {head!r}. Tensors {'; '.join(parts)}. "
        "Check that config.json belongs to these weights, and that they are GPT-J's."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names))
