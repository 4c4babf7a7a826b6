"""Known mistakes with scores, masks, heads and caches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.diagnosis.rounding import cache_in, scores_in
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import ops
from gptj.spec.reference.ops import Array


def scaled(factor: Callable[[GPTJConfig], float]) -> Any:
    """Return the mistake that multiplies the scores by a factor."""

    def change(right: Computation) -> Computation:
        scores = right.maths.scores
        return right.with_maths(scores=lambda q, k, config: scores(q, k, config) * factor(config))

    return change


def scaled_by(right: Computation, value: float) -> Computation:
    return scaled(lambda config: value)(right)


def masked_by(change_mask: Callable[[Array], Array]) -> Any:
    """Return the mistake that takes another additive mask (B or 1, 1, T, S)."""

    def change(right: Computation) -> Computation:
        probabilities = right.maths.probabilities
        return right.with_maths(
            probabilities=lambda scaled, mask: probabilities(scaled, change_mask(mask))
        )

    return change


def sees(offset: int) -> Any:
    """Return the mistake of a causal mask that ends `offset` keys later."""

    def change_mask(mask: Array) -> Array:
        length, total = mask.shape[2:]
        allowed = np.tril(np.ones((length, total), bool), total - length + offset)
        allowed[:, 0] = True  # else the first query would see nothing
        return np.where(allowed, 0.0, MASK_VALUE).astype(mask.dtype)[None, None]

    return change_mask


def future_seen(right: Computation, value: int) -> Computation:
    return masked_by(sees(value))(right)


def padding_seen(right: Computation) -> Computation:
    return right.with_inputs(mask=None)


def mask_before_scale(right: Computation) -> Computation:
    root = math.sqrt(right.config.head_dim)
    return masked_by(lambda mask: np.maximum(mask / root, MASK_VALUE))(right)


def masked_to_zero(right: Computation) -> Computation:
    """Give masked keys the score 0, not minus infinity."""
    probabilities = right.maths.probabilities
    return right.with_maths(
        probabilities=lambda scaled, mask: probabilities(scaled * (mask == 0), mask * 0)
    )


def masked_after_softmax(right: Computation) -> Computation:
    return right.with_maths(probabilities=lambda scaled, mask: ops.softmax(scaled) * (mask == 0))


def windowed(right: Computation, value: int) -> Computation:
    def change_mask(mask: Array) -> Array:
        length, total = mask.shape[2:]
        near = np.triu(np.ones((length, total), bool), total - length - value + 1)
        return np.where(near, mask, MASK_VALUE).astype(mask.dtype)

    return masked_by(change_mask)(right)


def no_softmax_shift(right: Computation) -> Computation:
    """Add one to the sum: a softmax that may attend to nothing."""

    def probabilities(scaled: Array, mask: Array) -> Array:
        exponentials = np.exp(np.minimum(np.maximum(scaled + mask, MASK_VALUE), 80.0))
        return exponentials / (1.0 + exponentials.sum(axis=-1, keepdims=True))

    return right.with_maths(probabilities=probabilities)


def heads_not_joined(right: Computation) -> Computation:
    return right.with_maths(join_heads=lambda x: x.reshape(x.shape[0], x.shape[2], -1))


def heads_not_split(right: Computation) -> Computation:
    return right.with_maths(
        split_heads=lambda x, heads: x.reshape(x.shape[0], heads, x.shape[1], -1)
    )


def heads_neither_split_nor_joined(right: Computation) -> Computation:
    return heads_not_joined(heads_not_split(right))


def heads_inside(right: Computation) -> Computation:
    """Take the axis of heads for the inner one: (E) as (D, H)."""

    def split_heads(x: Array, heads: int) -> Array:
        return x.reshape(*x.shape[:2], -1, heads).transpose(0, 3, 1, 2)

    return right.with_maths(split_heads=split_heads)


def heads_joined_inside(right: Computation) -> Computation:
    def join_heads(x: Array) -> Array:
        return x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1)

    return right.with_maths(join_heads=join_heads)


def heads_inside_both_ways(right: Computation) -> Computation:
    return heads_joined_inside(heads_inside(right))


MISTAKES = (
    Hypothesis(
        "scale_missing",
        "Scores are not divided by the root of a head's width.",
        "Divide the products of queries and keys by sqrt(head_dim).",
        scaled(lambda config: math.sqrt(config.head_dim)),
    ),
    Hypothesis(
        "scale_twice",
        "Scores are divided by the root of a head's width twice.",
        "Divide once: by sqrt(head_dim), in the query or in the scores.",
        scaled(lambda config: 1 / math.sqrt(config.head_dim)),
    ),
    Hypothesis(
        "scale_of_model_width",
        "Scores are divided by the root of the model's width.",
        "Divide by sqrt(head_dim), where head_dim is n_embd / n_head.",
        scaled(lambda config: 1 / math.sqrt(config.n_head)),
    ),
    Hypothesis(
        "scale_of_rotary_width",
        "Scores are divided by the root of rotary_dim.",
        "Divide by sqrt(head_dim).",
        scaled(lambda config: math.sqrt(config.head_dim / config.rotated_dim)),
    ),
    Hypothesis(
        "scale_wrong",
        "Scores are {value} times what they should be.",
        "Divide the products of queries and keys by sqrt(head_dim), and by nothing else.",
        scaled_by,
        (0.25, 0.5, 0.8, 1.25, 2.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "causal_mask_missing",
        "Tokens attend to those after them.",
        "Mask keys after the query.",
        masked_by(lambda mask: mask * 0),
        mixes=True,
    ),
    Hypothesis(
        "causal_mask_off",
        "The causal mask ends {value} key(s) after the query itself.",
        "A token attends to itself and to those before it.",
        future_seen,
        (-1, 1),
        mixes=True,
    ),
    Hypothesis(
        "padding_attended",
        "The attention mask is ignored: padding is attended to.",
        "Mask the keys that are padding, and count positions without them.",
        padding_seen,
    ),
    Hypothesis(
        "mask_before_scale",
        "The mask is added before the scores are divided by sqrt(head_dim).",
        "Scale first, then add the mask.",
        mask_before_scale,
    ),
    Hypothesis(
        "mask_is_zero",
        "Masked scores are 0, so that masked keys keep a share of the attention.",
        "Give masked scores the lowest value of their dtype.",
        masked_to_zero,
        mixes=True,
    ),
    Hypothesis(
        "mask_after_softmax",
        "The mask is applied after the softmax, so that the weights do not add up to 1.",
        "Mask the scores, then take the softmax.",
        masked_after_softmax,
        mixes=True,
    ),
    Hypothesis(
        "attention_window",
        "A token attends to the last {value} tokens only.",
        "GPT-J has no window: attend to all tokens before.",
        windowed,
        (4, 8, 16, 32),
    ),
    Hypothesis(
        "softmax_plus_one",
        "The softmax has one more in its denominator.",
        "Divide by the sum of the exponentials, of which none is left out or added.",
        no_softmax_shift,
    ),
    Hypothesis(
        "heads_not_joined",
        "Heads are joined without moving their axis behind that of positions.",
        "Transpose (B, H, T, D) to (B, T, H, D) before the reshape.",
        heads_not_joined,
        mixes=True,
    ),
    Hypothesis(
        "heads_not_split",
        "Projections are reshaped to (B, H, T, D) without a transposition.",
        "Reshape to (B, T, H, D), then transpose.",
        heads_not_split,
        mixes=True,
    ),
    Hypothesis(
        "heads_reshaped_both_ways",
        "Heads are split and joined by reshapes alone, without a transposition.",
        "Reshape to (B, T, H, D), transpose, and transpose back before heads are joined.",
        heads_neither_split_nor_joined,
        mixes=True,
    ),
    Hypothesis(
        "heads_inside",
        "Projections are split as (head_dim, n_head), not (n_head, head_dim).",
        "Split the last axis into n_head runs of head_dim.",
        heads_inside,
    ),
    Hypothesis(
        "heads_joined_inside",
        "Heads are joined as (head_dim, n_head), not (n_head, head_dim).",
        "Transpose (B, H, T, D) to (B, T, H, D) before the heads are joined.",
        heads_joined_inside,
    ),
    Hypothesis(
        "heads_inside_both_ways",
        "Heads are split and joined as (head_dim, n_head), not (n_head, head_dim).",
        "Split the last axis into n_head runs of head_dim, and join them so.",
        heads_inside_both_ways,
    ),
    Hypothesis(
        "cache_precision",
        "Keys and values are kept in {value}.",
        "Keep the cache in the dtype of the computation.",
        cache_in,
        ("float16", "bfloat16", "int8", "float8_e4m3fn", "float8_e5m2"),
    ),
    Hypothesis(
        "scores_precision",
        "Scores and their softmax are computed in {value}.",
        "Compute them in float32.",
        scores_in,
        ("float16", "bfloat16"),
    ),
)
