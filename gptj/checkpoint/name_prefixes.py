"""The names of a file's tensors without what training programs put before and between them.

Wrappers leave their names in those of the tensors: ``module.`` (DataParallel), ``_orig_mod.``
(torch.compile), ``model.`` (Lightning), ``base_model.model.`` (PEFT), ``state_dict.`` (a table in a
table). The word table shows what precedes GPT-J's own names, whatever it is.
"""

from collections.abc import Iterable
from typing import Final

from gptj.errors import CheckpointError, choices
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.params import EMBEDDING
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.weight_names import TOP_MODULES

WRAPPERS: Final = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
"""Parts that wrappers of single layers put into names; none is one of GPT-J's."""

STARTS: Final = frozenset((*TOP_MODULES, "wte", "h", "ln_f"))
"""The first parts of GPT-J's own names."""

_TABLE: Final = EMBEDDING.removeprefix(BASE_PREFIX)


def plain_names(tensors: Tensors, source: object) -> tuple[dict[str, LazyTensor], list[str]]:
    """Return the tensors by GPT-J's own names, and what was done to the names, in sentences.

    Raises:
        CheckpointError: if several prefixes lead to a word table, or two tensors get one name.
    """
    prefix = _prefix(tensors, source)
    renamed: dict[str, LazyTensor] = {}
    before: dict[str, str] = {}
    inside: dict[str, None] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        plain = _without_wrappers(bare, inside)
        if plain in renamed:
            raise CheckpointError(
                f"{source} holds both {before[plain]} and {name}, which are one tensor of GPT-J: "
                "which of them is meant is not clear. Save the file again with one of them."
            )
        renamed[plain], before[plain] = tensor, name
    notes = []
    if prefix:
        notes.append(f"the tensors are found under {prefix!r}, which was left out of their names")
    if inside:
        notes.append(f"{choices(inside)} was left out inside the names of tensors")
    return renamed, notes


def _prefix(names: Iterable[str], source: object) -> str:
    """Return what precedes GPT-J's names; nothing where nothing does."""
    found: dict[str, None] = {}
    for name in names:
        if f".{name}".endswith(f".{_TABLE}"):
            start = name.removesuffix(_TABLE)
            if f".{start}".endswith(f".{BASE_PREFIX}"):
                start = start.removesuffix(BASE_PREFIX)
            found[start] = None
    if len(found) < 2 or "" in found:
        return "" if "" in found else next(iter(found), "")
    raise CheckpointError(
        f"{source} holds several models, under {choices(found)}: which of them is meant is not "
        "clear. Save the one that you mean in a separate file."
    )


def _without_wrappers(name: str, removed: dict[str, None]) -> str:
    """Return a name without wrappers' parts after its first own part; note those left out."""
    parts = name.split(".")
    if parts[0] not in STARTS or WRAPPERS.isdisjoint(parts):
        return name
    removed |= {f"{part}.": None for part in parts if part in WRAPPERS}
    return ".".join(part for part in parts if part not in WRAPPERS)
