"""ModelOutput: the return value of every model, in every framework."""

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, Self

from gptj.spec.heads import HEADS

GENERATED: Final = ("sequences", "sequences_scores", "scores", "logits", "beam_indices")
"""Fields of the output of generate() that models lack."""

FIELDS: Final = frozenset(name for head in HEADS.values() for name in head.outputs) | {*GENERATED}


class KnownToTransformers:
    """Lets ``isinstance`` find an output to be one of transformers', where that is loaded.

    Its pipelines, and TransformerLens, read an output by number or by attribute only then; of other
    mappings they make plain dicts.
    """

    def known(self) -> Self:
        """Return the output, from now on as one of transformers' for its programs.

        Not for code that is being traced: PyTorch's compiler looks at the class, too.
        """
        vars(self)["_is_known"] = True
        return self

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        theirs = getattr(sys.modules.get("transformers.utils.generic"), "ModelOutput", None)
        return theirs if theirs and "_is_known" in vars(self) else type(self)


class ModelOutput(OrderedDict[str, Any], KnownToTransformers):
    """The results of a forward pass: by attribute, by string key, by integer index, or as a tuple.

    A field that was not computed is None as an attribute and absent from keys, indices and the
    tuple. Every framework's tree functions see the values inside.
    """

    def __init__(
        self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **values: object
    ) -> None:
        """Keep the pairs whose value is not None, in order; `pairs` may also be a mapping."""
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        given = [*items, *values.items()]
        super().__init__((name, value) for name, value in given if value is not None)

    def __getattr__(self, name: str) -> Any:
        """Return a field's value, or None for one that was not computed."""
        if name in self:
            return super().__getitem__(name)
        if name in FIELDS:
            return None
        raise AttributeError(f"The output has no field {name!r}; it has {', '.join(self)}.")

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field as attribute and key; None removes it."""
        if name not in FIELDS and name not in self:
            super().__setattr__(name, value)
        elif value is None:
            self.pop(name, None)
        else:
            self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        """Return a field by name, or computed fields by index or slice."""
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle through the constructor."""
        return (type(self), (tuple(self.items()),))

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that were computed, in order."""
        return tuple(self.values())


def flatten(output: ModelOutput) -> tuple[list[Any], tuple[Hashable, ...]]:
    """Split an output into values and names, for the frameworks' tree registries."""
    return list(output.values()), tuple(output.keys())


def unflatten(names: Iterable[str], values: Iterable[Any]) -> ModelOutput:
    """Rebuild an output; a tree function may have replaced any value, even by None."""
    output = ModelOutput()
    for name, value in zip(names, values, strict=True):
        OrderedDict.__setitem__(output, name, value)
    return output
