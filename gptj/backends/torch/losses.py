"""The losses: float32 scalars in every compute dtype but float64."""

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels.linear import compute_dtype, is_concrete, kernel_for
from gptj.backends.torch.layers import Linear, at_least_float32
from gptj.spec import IGNORE_INDEX

POSITIONS_AT_A_TIME: Final = 256
"""Positions whose losses, and their gradients, are computed at a time."""


def causal_lm_loss(logits: Tensor, labels: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` is left out. The loss is 0 if none remains.
        items: what the sum is divided by, () or (1,), instead of the number of targets.
    """
    # one row per position: along an inner axis the kernel sums a large vocabulary less precisely
    return cross_entropy(logits.flatten(0, 1), next_tokens(labels).flatten(), items)


def next_tokens(labels: Tensor) -> Tensor:
    """Return for labels (B, T), which are not shifted, the target of every position.

    The last position has none. Shifting the targets saves a copy of the logits, which are larger.
    """
    labels = labels.long()  # an unsigned one would wrap what is ignored
    nothing = labels.new_full((len(labels), 1), IGNORE_INDEX)
    return torch.cat((labels[:, 1:], nothing), dim=1)


def head_loss(
    hidden: Tensor, head: Linear, logits: Tensor, labels: Tensor, items: Tensor | None = None
) -> Tensor:
    """Return the `causal_lm_loss` of what a head made of hidden states.

    No other tensor of the logits' size is held: their gradient passes through the matmul of the
    head a few positions at a time. Where this is impossible, the plain loss is used.

    Args:
        hidden: (B, T, E).
        logits: (B, T, V), float32, as the head computed them.
        labels, items: (B, T) and one number, as for `causal_lm_loss`.
    """
    is_plain_linear = isinstance(head, Linear) and head.is_plain()  # users may replace it
    if not is_plain_linear or not is_concrete(head.weight):
        return causal_lm_loss(logits, labels, items)
    rows = logits.detach().flatten(0, 1), next_tokens(labels).flatten()
    count = _count(rows[1], items)
    loss: Tensor = _HeadLoss.apply(hidden.flatten(0, 1), head.weight, head.bias, *rows, count)
    return loss


def classification_loss(
    logits: Tensor, labels: Tensor, problem_type: str, items: Tensor | None = None
) -> Tensor:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
        items: what the sum is divided by, () or (1,), instead of the number of labels.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.flatten(), items)
    labels = labels.reshape(logits.shape).to(logits.dtype)
    is_regression = problem_type == "regression"
    loss = F.mse_loss if is_regression else F.binary_cross_entropy_with_logits
    if items is None:
        return loss(logits, labels)
    return loss(logits, labels, reduction="sum") / _at_least_one(items)


def question_answering_loss(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    items: Tensor | None = None,
) -> Tensor:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is left out.
        items: what either sum is divided by, () or (1,), instead of the number of targets.
    """
    length = start_logits.shape[1]

    def loss(logits: Tensor, positions: Tensor) -> Tensor:
        targets = positions.flatten().long().clamp(0, length)
        return cross_entropy(logits, targets.where(targets < length, IGNORE_INDEX), items)

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Tensor, targets: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not ignored."""
    targets = targets.long()
    known = targets.clamp(0, logits.shape[-1] - 1)  # a traced call cannot check them
    losses = F.cross_entropy(logits, known, reduction="none")
    return _mean(losses, targets, _count(targets, items))


def _count(targets: Tensor, items: Tensor | None) -> Tensor:
    """Return what the losses of targets (N,) are divided by: a caller's number, or theirs."""
    return _at_least_one((targets != IGNORE_INDEX).sum() if items is None else items)


def _at_least_one(count: Tensor) -> Tensor:
    """Return a number of targets as a divisor, also where there is none."""
    return count.reshape(()).clamp(min=1)


def _mean(losses: Tensor, targets: Tensor, count: Tensor) -> Tensor:
    """Return the sum of the losses (N,) whose targets are not ignored, divided by a number."""
    return torch.where(targets != IGNORE_INDEX, losses, 0.0).sum() / count


class _HeadLoss(torch.autograd.Function):
    """The loss of hidden states (N, E) whose logits (N, V) are known."""

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        logits: Tensor,
        targets: Tensor,
        count: Tensor,
    ) -> Tensor:
        known = targets.long().clamp(0, logits.shape[-1] - 1)
        chunks = zip(
            logits.split(POSITIONS_AT_A_TIME), known.split(POSITIONS_AT_A_TIME), strict=True
        )
        losses = [F.cross_entropy(*chunk, reduction="none") for chunk in chunks]
        return _mean(torch.cat(losses), targets, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.dtype = compute_dtype(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # second derivatives are wanted
            return *_plain_gradients(ctx.saved_tensors, gradients[0], needed), *(None,) * 3
        hidden, weight, bias, logits, targets, count = ctx.saved_tensors
        share = torch.where(targets != IGNORE_INDEX, gradients[0] / count, 0.0)  # (N,)
        x, low_precision = hidden.to(ctx.dtype), weight.to(ctx.dtype)
        to_hidden: list[Tensor] = []
        to_weight: Any = None
        to_bias: Any = None
        chunks = (tensor.split(POSITIONS_AT_A_TIME) for tensor in (x, logits, targets, share))
        for rows in zip(*chunks, strict=True):
            found = _gradients_of_positions(rows, low_precision, needed)
            to_hidden.append(found[0])
            to_weight, to_bias = _add(to_weight, found[1]), _add(to_bias, found[2])
        return (
            torch.cat(to_hidden).to(hidden.dtype) if needed[0] else None,
            to_weight.to(weight.dtype) if needed[1] else None,
            to_bias.to(bias.dtype) if needed[2] else None,
            *(None,) * 3,
        )


def _gradients_of_positions(
    given: Sequence[Tensor], weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of a few losses with respect to hidden states, weight and bias.

    Args:
        given: hidden states (R, E), logits (R, V), targets (R,), and each loss's weight (R,).
    """
    x, logits, targets, share = given
    to_logits = torch.softmax(logits, dim=-1)  # (R, V)
    known = targets.long().clamp(0, logits.shape[-1] - 1)[:, None]
    to_logits.scatter_add_(1, known, torch.full_like(share, -1.0)[:, None])
    to_logits *= share[:, None]
    rows, kernel = to_logits.to(x.dtype), kernel_for(x, weight)
    return (
        kernel.to_inputs(rows, weight) if needed[0] else None,
        at_least_float32(kernel.to_weight(rows, x)) if needed[1] else None,
        to_logits.sum(0) if needed[2] else None,
    )


def _plain_gradients(
    inputs: Sequence[Tensor], gradient: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the same gradients in a form that can be differentiated again."""
    hidden, weight, bias, _, targets, count = inputs
    loss = cross_entropy(at_least_float32(F.linear(hidden, weight, bias)), targets, count)
    wanted = [one for one, is_needed in zip(inputs, needed, strict=False) if is_needed]
    found = iter(torch.autograd.grad(loss, wanted, gradient, create_graph=True))
    return [next(found) if is_needed else None for is_needed in needed]


def _add(total: Tensor | None, added: Tensor | None) -> Tensor | None:
    return added if total is None or added is None else total.add_(added)
