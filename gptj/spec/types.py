"""The types of values that come from a framework or go to one, for code that knows none."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt


class Tensor(Protocol):
    """A tensor of whichever framework, or a NumPy array.

    Neutral code looks at shape and dtype and cuts pieces off. For anything else it asks a backend,
    for example `to_numpy`.
    """

    @property
    def shape(self) -> Sequence[int]:
        """The sizes; None for one that a TensorFlow graph leaves open."""

    @property
    def dtype(self) -> object:
        """The framework's own dtype."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return the part that a slice, or a tuple of slices, selects."""


TensorLike: TypeAlias = Tensor | npt.ArrayLike
"""What becomes a tensor: one of the framework, a NumPy array, or numbers in nested lists."""

DType: TypeAlias = object
"""A dtype: its name (``"bfloat16"``), or NumPy's or a framework's own object for it."""

Device: TypeAlias = object
"""A device: its name (``"cuda:0"``) or the framework's own object for it."""

Size: TypeAlias = int | None
"""A size of a tensor; None where a TensorFlow graph leaves it open."""
