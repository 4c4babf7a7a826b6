"""What the machine can do at most: bytes read per second, and operations per second.

The roofline is the best rate seen in any program: NumPy's matmuls here, those of the frameworks in
separate processes. A model cannot be faster without doing less work.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from gptj.bench.costs import Cost
from gptj.system.processor import cores

Array = npt.NDArray[Any]

BUFFER: Final = 10**9
"""Bytes that are read: far more than any cache holds."""

LONG_ENOUGH: Final = 0.03
"""Seconds that a matmul should take for its rate to count."""

WIDTHS: Final = (256, 512, 1024, 2048, 4096, 8192)
REPETITIONS: Final = 5


@dataclass(frozen=True)
class Roofline:
    """The most that was seen, per second; 0 for what was not measured.

    Attributes:
        bytes: read.
        float32, bfloat16: operations of matmuls in that dtype.
    """

    bytes: float = 0.0
    float32: float = 0.0
    bfloat16: float = 0.0

    def operations(self, dtype: str) -> float:
        """Return the rate for a dtype; half precision can always be computed in float32."""
        return self.float32 if dtype == "float32" else max(self.float32, self.bfloat16)

    def seconds(self, cost: Cost, dtype: str) -> float:
        """Return the least time for something of this cost."""
        return max(cost.operations / self.operations(dtype), cost.bytes / self.bytes)

    def to_dict(self) -> dict[str, float]:
        """Return the rates, as JSON can hold them."""
        return asdict(self)


def best(found: Iterable[Roofline]) -> Roofline:
    """Return the highest of every rate."""
    rows = [limits.to_dict() for limits in found]
    return Roofline(**{name: max(row[name] for row in rows) for name in Roofline().to_dict()})


def numpy_roofline(buffer: int = BUFFER, width: int = WIDTHS[-1]) -> Roofline:
    """Measure with NumPy: reading with a thread per core, and its float32 matmul."""
    numbers = np.ones(buffer // 4, np.float32)
    seconds = fastest(lambda: read(numbers))
    return Roofline(numbers.nbytes / seconds, matmul_rate(np.ndarray.__matmul__, _ones, width))


def framework_roofline(
    make: Callable[[Array], Any],
    wait: Callable[[Any], Any],
    buffer: int = BUFFER,
    width: int = WIDTHS[-1],
) -> Roofline:
    """Measure with a framework: matmuls with a vector, which read a matrix once, and with a matrix.

    Args:
        make: array -> tensor, on the device that counts.
        wait: returns when a tensor has been computed.
        buffer: bytes that are read.
        width: of the largest matrix.
    """

    def multiply(left: Any, right: Any) -> Any:
        return wait(left @ right)

    rows = np.ones((max(1, buffer // 2**14), 2**12), np.float32)
    matrix_bytes, matrix = rows.nbytes, make(rows)
    vector = make(np.ones((2**12, 1), np.float32))
    seconds = fastest(lambda: multiply(matrix, vector))

    def rate(dtype: npt.DTypeLike) -> float:
        return matmul_rate(multiply, lambda size: make(_ones(size, dtype)), width)

    return Roofline(matrix_bytes / seconds, rate(np.float32), rate(ml_dtypes.bfloat16))


def matmul_rate(
    multiply: Callable[[Any, Any], Any], make: Callable[[int], Any], largest: int
) -> float:
    """Return operations per second for square matrices, as large as it takes to time them well.

    Args:
        multiply: returns when the matmul of two has been computed.
        make: width -> matrix.
        largest: width that is not exceeded.
    """
    rate = 0.0
    for width in (size for size in WIDTHS if size <= largest):
        matrix = make(width)
        seconds = fastest(partial(multiply, matrix, matrix))
        rate = max(rate, 2 * width**3 / seconds)
        if seconds > LONG_ENOUGH:
            break
    return rate


def read(numbers: Array) -> None:
    """Read an array (N,) of float32, a slice per core: a dot product with itself."""
    parts = np.array_split(numbers, cores())
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: np.dot(part, part), parts))


def _ones(width: int, dtype: npt.DTypeLike = np.float32) -> Array:
    return np.ones((width, width), dtype)


def fastest(work: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of several runs, after one that does not count."""
    start = time.perf_counter()
    work()
    if time.perf_counter() - start > 2:  # it will not become much faster
        return time.perf_counter() - start
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
