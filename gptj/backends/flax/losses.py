"""The losses: float32 scalars in every compute dtype."""

from typing import Final, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gptj.spec import IGNORE_INDEX

HeadInputs: TypeAlias = tuple[Array, Array, Array, Array]
"""Hidden states, kernel, bias and logits, or the tangents of these."""

POSITIONS_AT_A_TIME: Final = 256
"""Positions whose losses, and their gradients, are computed at a time."""


def causal_lm_loss(logits: Array, labels: Array, items: Array | None = None) -> Array:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` is left out. The loss is 0 if none remains.
        items: what the sum is divided by, () or (1,), instead of the number of targets.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    return cross_entropy(rows, next_tokens(labels).reshape(-1), items)


def next_tokens(labels: Array) -> Array:
    """Return for labels (B, T), which are not shifted, the target of every position.

    The last position has none. Shifting the targets saves a copy of the logits, which are larger.
    """
    labels = labels.astype(jnp.int32)  # a narrow one would wrap what is ignored
    return jnp.pad(labels[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORE_INDEX)


def head_loss(
    hidden: Array,
    kernel: Array,
    bias: Array,
    logits: Array,
    labels: Array,
    items: Array | None = None,
) -> Array:
    """Return the `causal_lm_loss` of what a head made of hidden states.

    The logits' gradient is never whole: it passes through the matmul of the head a few positions at
    a time. A chunk has positions of every sequence, because sequences may be on several devices.

    Args:
        hidden: (B, T, E).
        kernel, bias: the head's, (E, V) and (V,).
        logits: (B, T, V), float32, as the head computed them.
        labels, items: (B, T) and one number, as for `causal_lm_loss`.
    """
    targets, size = next_tokens(labels), _chunk_size(*labels.shape)
    given = hidden, jax.lax.stop_gradient(logits), targets.clip(0, logits.shape[-1] - 1)

    @jax.checkpoint  # else the scan would keep the logits' gradient of every chunk
    def chunk_losses(start: Array) -> Array:
        cut = (jax.lax.dynamic_slice_in_dim(x, start, size, axis=1) for x in given)
        states, known, wanted = (x.reshape(-1, *x.shape[2:]) for x in cut)
        return _losses(_known_logits(states, kernel, bias, known), wanted)

    starts = jnp.arange(0, labels.shape[1], size, dtype=jnp.int32)
    losses = jax.lax.map(chunk_losses, starts).reshape(-1, len(labels), size)
    rows = losses.swapaxes(0, 1).reshape(-1), targets.reshape(-1)
    return _mean(*rows, _count(rows[1], items))


def classification_loss(
    logits: Array, labels: Array, problem_type: str, items: Array | None = None
) -> Array:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
        items: what the sum is divided by, () or (1,), instead of the number of labels.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1), items)
    labels = labels.reshape(logits.shape).astype(jnp.float32)
    if problem_type == "regression":
        losses = jnp.square(logits - labels)
    else:  # -y log s(z) - (1 - y) log (1 - s(z)), without overflow
        losses = -(labels * nn.log_sigmoid(logits) + (1.0 - labels) * nn.log_sigmoid(-logits))
    return losses.mean() if items is None else losses.sum() / _at_least_one(items)


def question_answering_loss(
    start_logits: Array,
    end_logits: Array,
    start_positions: Array,
    end_positions: Array,
    items: Array | None = None,
) -> Array:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is left out.
        items: what either sum is divided by, () or (1,), instead of the number of targets.
    """
    length = start_logits.shape[1]

    def loss(logits: Array, positions: Array) -> Array:
        targets = positions.reshape(-1).astype(jnp.int32).clip(0, length)
        return cross_entropy(logits, jnp.where(targets < length, targets, IGNORE_INDEX), items)

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Array, targets: Array, items: Array | None = None) -> Array:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not ignored."""
    targets = targets.astype(jnp.int32)
    known = targets.clip(0, logits.shape[-1] - 1)  # a traced call cannot check them
    return _mean(_losses(logits, known), targets, _count(targets, items))


def _losses(logits: Array, targets: Array) -> Array:
    """Return the cross-entropies (N,) of (N, V) logits and targets (N,)."""
    log_probs = nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_probs, targets[:, None], axis=-1)[:, 0]


def _count(targets: Array, items: Array | None) -> Array:
    """Return what the losses of targets (N,) are divided by: a caller's number, or theirs."""
    kept = targets != IGNORE_INDEX
    return _at_least_one(kept.sum(dtype=jnp.int32) if items is None else items)


def _at_least_one(count: Array) -> Array:
    """Return a number of targets as a divisor, also where there is none."""
    return count.reshape(()).astype(jnp.float32).clip(1.0)


def _mean(losses: Array, targets: Array, count: Array) -> Array:
    """Return the sum of the losses (N,) whose targets are not ignored, divided by a number."""
    return jnp.where(targets != IGNORE_INDEX, losses, 0.0).sum() / count


def _chunk_size(batch: int, length: int) -> int:
    """Return the number of positions per sequence computed at a time: a divisor of the length.

    If all suitable divisors are small, it is the length itself.
    """
    most = max(1, POSITIONS_AT_A_TIME // batch)
    size = max(size for size in range(1, min(most, length) + 1) if length % size == 0)
    return size if 2 * size > most else length


@jax.custom_jvp
def _known_logits(hidden: Array, kernel: Array, bias: Array, logits: Array) -> Array:
    """Return the matmul of hidden states (N, E) with the head, known to be `logits` (N, V)."""
    return logits


@_known_logits.defjvp
def _known_logits_jvp(primals: HeadInputs, tangents: HeadInputs) -> tuple[Array, Array]:
    hidden, kernel, _, _ = primals
    to_hidden, to_kernel, to_bias, _ = tangents
    # a matmul, because XLA sums the rows of the bias's gradient on one thread
    rows = jnp.ones((len(hidden), 1), to_bias.dtype) @ to_bias[None]
    change = to_hidden @ kernel + hidden @ to_kernel + rows
    return _known_logits(*primals), change  # itself, for second derivatives
