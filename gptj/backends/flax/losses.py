"""The losses: float32 scalars in every compute dtype."""

from typing import Any

import jax
import jax.numpy as jnp

from gptj.spec import IGNORE_INDEX

Array = Any


def causal_lm_loss(logits: Array, labels: Array) -> Array:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` takes no part. With none left the loss is 0.
    """
    targets = labels[:, 1:]
    kept = targets != IGNORE_INDEX
    targets = targets.clip(0, logits.shape[-1] - 1)  # while tracing nobody has checked them
    log_probs = jax.nn.log_softmax(logits[:, :-1], axis=-1)
    losses = -jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]  # (B, T-1)
    count = kept.sum(dtype=jnp.int32).clip(1).astype(jnp.float32)
    return jnp.where(kept, losses, 0.0).sum() / count
