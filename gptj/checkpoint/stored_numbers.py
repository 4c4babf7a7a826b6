"""The numbers in the structure of a file: sizes, shapes and offsets, checked before any work."""

from typing import Final

from gptj.errors import brief

LARGEST: Final = 2**48
"""More than the bytes of any file, and so than any size or offset in one."""

MOST_AXES: Final = 32
"""More than the axes of any weight."""


def read_size(value: object) -> int:
    """Return a size, an offset or a length.

    Raises:
        ValueError: for what is no integer from 0 to `LARGEST`.
    """
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{brief(value)} stands where a size should")
    return value


def read_shape(values: object) -> tuple[int, ...]:
    """Return the shape of a tensor.

    Raises:
        ValueError: for what is no list or tuple of few sizes.
    """
    if not isinstance(values, list | tuple) or len(values) > MOST_AXES:
        raise ValueError(f"{brief(values)} stands where a shape should")
    shape = tuple(read_size(value) for value in values)
    product = 1
    for size in shape:
        product *= max(size, 1)  # NumPy refuses huge sizes beside a 0 too
    if product > LARGEST:
        raise ValueError(f"the shape {brief(shape)} has more numbers than any file")
    return shape
