"""Known mistakes with rotary positions: which dimensions are pairs, and how fast they turn."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.diagnosis.rounding import rounded_to
from gptj.spec import ROTARY_BASE
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import ops
from gptj.spec.reference.maths import Pair
from gptj.spec.reference.ops import Array

ROTATED = "the first rotary_dim dimensions of each query and key"


def table(
    config: GPTJConfig,
    dtype: npt.DTypeLike,
    base: float = ROTARY_BASE,
    width: int | None = None,
    stretch: float = 1.0,
    first: int = 0,
) -> Pair:
    """Return sine and cosine (N, R) with another base, divisor of the exponents, or positions."""
    pairs = (np.arange(0, config.rotated_dim, 2) + first) / (width or config.rotated_dim)
    angles = np.outer(np.arange(config.n_positions) * stretch, np.float64(base) ** -pairs)
    angles = np.repeat(angles, 2, axis=1)
    return np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)


def base(right: Computation, value: float) -> Computation:
    return right.with_maths(rotary_table=lambda config, dtype: table(config, dtype, base=value))


def exponents_of_the_head(right: Computation) -> Computation:
    return right.with_maths(
        rotary_table=lambda config, dtype: table(config, dtype, width=config.head_dim)
    )


def frequencies_from_the_second(right: Computation) -> Computation:
    return right.with_maths(rotary_table=lambda config, dtype: table(config, dtype, first=2))


def stretched(right: Computation, value: float) -> Computation:
    return right.with_maths(rotary_table=lambda config, dtype: table(config, dtype, stretch=value))


def halves(x: Array, sin: Array, cos: Array) -> Array:
    """Rotate dimension i with i + R / 2, by the angles of the interleaved table, sorted anew."""
    return _by_halves(x, _as_halves(sin), _as_halves(cos))


def _as_halves(angles: Array) -> Array:
    return np.concatenate((angles[..., ::2], angles[..., ::2]), axis=-1)


def _by_halves(x: Array, sin: Array, cos: Array) -> Array:
    width = sin.shape[-1]
    first, second = np.split(x[..., :width], 2, axis=-1)
    other = np.concatenate((-second, first), axis=-1)
    rotated = x[..., :width] * cos + other * sin
    return np.concatenate((rotated, x[..., width:]), axis=-1)


def _interleaved_by_halves_table(x: Array, sin: Array, cos: Array) -> Array:
    return ops.apply_rotary(x, _as_halves(sin), _as_halves(cos))


def _last(x: Array, sin: Array, cos: Array) -> Array:
    width = x.shape[-1] - sin.shape[-1]
    turned = ops.apply_rotary(x[..., width:], sin, cos)
    return np.concatenate((x[..., :width], turned), axis=-1)


def rotated_by(rotate: Any) -> Any:
    """Return the mistake that rotates queries and keys with another function."""

    def change(right: Computation) -> Computation:
        return right.with_maths(
            rotate=lambda query, key, sin, cos: (rotate(query, sin, cos), rotate(key, sin, cos))
        )

    return change


def whole_head(right: Computation) -> Computation:
    return right.with_config(rotary_dim=right.config.head_dim)


def width(right: Computation, value: float) -> Computation:
    pairs = max(1, round(right.config.rotated_dim * value / 2))
    return right.with_config(rotary_dim=min(2 * pairs, right.config.head_dim // 2 * 2))


def whole_head_by_halves(right: Computation) -> Computation:
    return rotated_by(halves)(whole_head(right))


def in_half(right: Computation, value: str) -> Computation:
    """Round positions, frequencies and their products to few bits."""

    def rotary_table(config: GPTJConfig, dtype: npt.DTypeLike) -> Pair:
        pairs = np.arange(0, config.rotated_dim, 2) / config.rotated_dim
        frequencies = rounded_to(ROTARY_BASE**-pairs, value)
        positions = rounded_to(np.arange(config.n_positions, dtype=np.float64), value)
        angles = np.repeat(rounded_to(np.outer(positions, frequencies), value), 2, axis=1)
        return np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)

    return right.with_maths(rotary_table=rotary_table)


BASES = (100.0, 500.0, 1000.0, 5000.0, 20000.0, 50000.0, 1e5, 5e5, 1e6, 1e7, 1e8)

MISTAKES = (
    Hypothesis(
        "rotary_half_split",
        "Rotary positions pair dimension i with i + rotary_dim / 2, as in LLaMA and GPT-NeoX.",
        "Pair the neighbours 2 i and 2 i + 1 (interleaved), or permute the rows of q_proj and "
        "k_proj to match.",
        rotated_by(halves),
    ),
    Hypothesis(
        "rotary_table_in_halves",
        "The rotary table is laid out as two equal halves, but neighbouring dimensions are paired.",
        "Repeat each angle for its two neighbours: a0, a0, a1, a1 and so on.",
        rotated_by(_interleaved_by_halves_table),
    ),
    Hypothesis(
        "rotary_pairs_in_halves",
        "Dimension i is paired with i + rotary_dim / 2, but the rotary table is for neighbours.",
        "Pair the neighbours 2 i and 2 i + 1.",
        rotated_by(_by_halves),
    ),
    Hypothesis(
        "rotary_whole_head",
        "Rotary positions are applied to all dimensions of a head.",
        f"Rotate only {ROTATED}.",
        whole_head,
    ),
    Hypothesis(
        "rotary_whole_head_half_split",
        "Rotary positions are applied to all dimensions of a head, and in two halves.",
        f"Rotate only {ROTATED}, in pairs of neighbours.",
        whole_head_by_halves,
    ),
    Hypothesis(
        "rotary_width",
        "The number of rotated dimensions is {value} times rotary_dim.",
        "Take rotary_dim from the configuration.",
        width,
        (0.5, 0.25),
    ),
    Hypothesis(
        "rotary_last_dimensions",
        "The last dimensions of a head are rotated in place of the first.",
        f"Rotate {ROTATED}.",
        rotated_by(_last),
    ),
    Hypothesis(
        "rotary_exponents_of_head",
        "The exponents of the rotary frequencies are divided by the width of a head.",
        "Divide them by rotary_dim: 10000 ** (-2 i / rotary_dim).",
        exponents_of_the_head,
    ),
    Hypothesis(
        "rotary_base",
        "The base of the rotary frequencies is {value}.",
        "The base is 10000, and pair i turns by 10000 ** (-2 i / rotary_dim) per position: 100 is "
        "the same as exponents i / rotary_dim.",
        base,
        BASES,
        between=True,
    ),
    Hypothesis(
        "rotary_frequencies_from_second",
        "The rotary frequencies start with that of the second pair.",
        "The first pair turns by one radian per position.",
        frequencies_from_the_second,
    ),
    Hypothesis(
        "rotary_positions_scaled",
        "Positions are multiplied by {value} before they rotate.",
        "Count positions 0, 1, 2 and so on, and interpolate none.",
        stretched,
        (0.125, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.25, 1.5, 1.75, 2.5, 3.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "rotary_half_precision",
        "The angles of the rotary table are computed in {value}.",
        "Compute them in float32 or better, and round sine and cosine at the end.",
        in_half,
        ("bfloat16", "float16"),
    ),
)
