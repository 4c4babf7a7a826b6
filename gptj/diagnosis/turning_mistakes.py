"""Known mistakes with rotary positions: what is turned, which way, how often and from where."""

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.diagnosis.rotary_mistakes import ROTATED
from gptj.spec.reference.maths import Pair
from gptj.spec.reference.ops import Array


def no_rotation(right: Computation) -> Computation:
    return right.with_maths(rotate=lambda query, key, sin, cos: (query, key))


def opposite(right: Computation) -> Computation:
    turn = right.maths.rotate
    return right.with_maths(rotate=lambda query, key, sin, cos: turn(query, key, -sin, cos))


def queries_alone(right: Computation) -> Computation:
    turn = right.maths.rotate
    return right.with_maths(rotate=lambda q, k, sin, cos: (turn(q, k, sin, cos)[0], k))


def keys_alone(right: Computation) -> Computation:
    turn = right.maths.rotate
    return right.with_maths(rotate=lambda q, k, sin, cos: (q, turn(q, k, sin, cos)[1]))


def opposite_keys(right: Computation) -> Computation:
    turn = right.maths.rotate
    return right.with_maths(
        rotate=lambda q, k, sin, cos: (turn(q, k, sin, cos)[0], turn(q, k, -sin, cos)[1])
    )


def twice(right: Computation) -> Computation:
    turn = right.maths.rotate
    return right.with_maths(rotate=lambda q, k, sin, cos: turn(*turn(q, k, sin, cos), sin, cos))


def _step(sin: Array, cos: Array) -> Pair:
    """Return sine and cosine of the angle between the first two positions, (B, 1, 1, R)."""
    s0, c0, s1, c1 = sin[:, :, :1], cos[:, :, :1], sin[:, :, 1:2], cos[:, :, 1:2]
    return s1 * c0 - c1 * s0, c1 * c0 + s1 * s0


def shifted(right: Computation, value: int) -> Computation:
    """Rotate queries as if they stood `value` positions later than their keys."""
    turn = right.maths.rotate

    def rotate(query: Array, key: Array, sin: Array, cos: Array) -> Pair:
        turned, key = turn(query, key, sin, cos)
        if sin.shape[2] < 2:
            return turned, key
        for _ in range(abs(value)):
            step_sin, step_cos = _step(sin, cos)
            turned = turn(turned, turned, step_sin * np.sign(value), step_cos)[0]
        return turned, key

    return right.with_maths(rotate=rotate)


def positions_with_padding(right: Computation) -> Computation:
    count, length = right.inputs.ids.shape
    return right.with_inputs(positions=np.tile(np.arange(length), (count, 1)))


def values_too(right: Computation) -> Computation:
    """Rotate the values as well: what is stored has been turned like the keys."""
    turn, keep = right.maths.rotate, right.maths.store
    held: list[Pair] = []

    def rotate(query: Array, key: Array, sin: Array, cos: Array) -> Pair:
        held[:] = [(sin, cos)]
        return turn(query, key, sin, cos)

    def store(key: Array, value: Array) -> Pair:
        for sin, cos in held:  # none where another mistake has done away with rotation
            value = turn(value, value, sin, cos)[1]
        return keep(key, value)

    return right.with_maths(rotate=rotate, store=store)


MISTAKES = (
    Hypothesis(
        "rotary_missing",
        "Queries and keys are not rotated at all: the model does not know positions.",
        f"Rotate {ROTATED} by their positions.",
        no_rotation,
    ),
    Hypothesis(
        "rotary_direction",
        "Rotary positions turn in the opposite direction.",
        "Rotate (a, b) to (a cos - b sin, b cos + a sin).",
        opposite,
    ),
    Hypothesis(
        "rotary_queries_only",
        "Queries are rotated, and keys are not.",
        "Rotate keys as well, before they are cached.",
        queries_alone,
    ),
    Hypothesis(
        "rotary_keys_only",
        "Keys are rotated, and queries are not.",
        "Rotate queries as well.",
        keys_alone,
    ),
    Hypothesis(
        "rotary_keys_opposite",
        "Keys are rotated in the direction opposite to that of queries.",
        "Rotate both in the same direction: their product depends on the difference.",
        opposite_keys,
    ),
    Hypothesis(
        "rotary_twice",
        "Queries and keys are rotated twice, or positions are doubled.",
        "Rotate once, by positions 0, 1, 2; keys in the cache are rotated already.",
        twice,
    ),
    Hypothesis(
        "rotary_values",
        "Values are rotated too.",
        "Rotate queries and keys only.",
        values_too,
    ),
    Hypothesis(
        "positions_off",
        "Queries are rotated as if they were {value} position(s) later than their keys.",
        "Give a token one position, for its query and its key.",
        shifted,
        (-2, -1, 1, 2),
    ),
    Hypothesis(
        "positions_count_padding",
        "Positions count padding.",
        "A token's position is the number of attended tokens before it.",
        positions_with_padding,
    ),
)
