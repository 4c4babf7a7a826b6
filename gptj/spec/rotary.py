"""The rotary table: one for all backends, computed in float64 and cast once.

Source: Su et al., "RoFormer" (arXiv:2104.09864), in the interleaved form of mesh-transformer-jax,
where dimensions 2i and 2i + 1 of a head are a pair.
"""

import numpy as np
import numpy.typing as npt

from gptj.spec import ROTARY_BASE
from gptj.spec.config import GPTJConfig

Floats = npt.NDArray[np.floating]


def rotary_table(config: GPTJConfig, dtype: npt.DTypeLike = np.float32) -> tuple[Floats, Floats]:
    """Return the sine and cosine of every position's angles, each value twice, (N, R)."""
    return rotary_values(config, np.arange(config.n_positions), dtype)


def rotary_values(
    config: GPTJConfig, positions: npt.NDArray[np.integer], dtype: npt.DTypeLike = np.float32
) -> tuple[Floats, Floats]:
    """Return the sine and cosine of some positions' angles, each value twice, (..., R).

    Position p rotates pair i by ``p * ROTARY_BASE ** (-2 i / R)`` radians. Angles, sine and cosine
    are computed in float64; the result is cast to `dtype` once.
    """
    pairs = np.arange(0, config.rotated_dim, 2, dtype=np.float64) / config.rotated_dim
    frequencies = ROTARY_BASE**-pairs  # (R / 2,) radians per position
    angles = np.repeat(positions[..., None] * frequencies, 2, axis=-1)  # (..., R)
    return np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)
