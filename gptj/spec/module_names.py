"""Canonical names of the modules that can be traced, the same in every backend."""

import fnmatch
from collections.abc import Iterable

from gptj.errors import ArgumentError, brief, suggest
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head

IN_A_BLOCK = (
    "ln_1",
    "attn.q_proj",
    "attn.k_proj",
    "attn.v_proj",
    "attn.out_proj",
    "attn",
    "mlp.fc_in",
    "mlp.fc_out",
    "mlp",
)
"""The modules of one block, in the order in which they finish; the block itself is last."""


def module_names(config: GPTJConfig, head: str) -> list[str]:
    """Return the names of all modules whose output can be traced, in order of computation.

    For example ``transformer.h.1.mlp.fc_out``; the base model's names lack ``transformer.``.
    Outputs are (B, T, width); those of the query and key projections precede the rotation.
    """
    prefix = find_head(head).prefix
    names = [f"{prefix}wte"]
    for layer in range(config.n_layer):
        block = f"{prefix}h.{layer}"
        names += [*(f"{block}.{part}" for part in IN_A_BLOCK), block]
    return [*names, f"{prefix}ln_f", *find_head(head).modules]


def find_module_names(config: GPTJConfig, head: str, wanted: Iterable[str]) -> list[str]:
    """Return the names that are wanted, each once.

    Args:
        wanted: names, or patterns of the shell such as ``transformer.h.*.mlp``, each of which
            stands for all names that match it, in order of computation.

    Raises:
        ArgumentError: for one that the model does not have, with the nearest known name; for what
            is no list of names.
    """
    if not isinstance(wanted, Iterable) or isinstance(wanted, bytes):
        raise ArgumentError(
            f"names must be a name of a module or a list of them; found {brief(wanted)}. "
            "model.module_names() lists them."
        )
    known, found = module_names(config, head), []
    for name in wanted:
        matching = fnmatch.filter(known, str(name))
        if not matching:
            raise ArgumentError(
                f"The model has no module {name!r}.{suggest(str(name), known)} Names are canonical:"
                f" {known[0]!r}, {known[1]!r} and so on to {known[-1]!r}; model.module_names() "
                "lists them."
            )
        found += matching
    return list(dict.fromkeys(found))
