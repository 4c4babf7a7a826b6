"""The losses in float64."""

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX
from gptj.spec.reference.ops import Array


def causal_lm_loss(logits: Array, labels: npt.NDArray[np.integer]) -> float:
    """Return the mean cross-entropy, in nats, of predicting each label from the position before it.

    Args:
        logits: (B, T, V).
        labels: (B, T), not shifted; `IGNORE_INDEX` takes no part. With none left the loss is 0.
    """
    targets = np.asarray(labels)[:, 1:]
    kept = targets != IGNORE_INDEX
    if not kept.any():
        return 0.0
    chosen, targets = logits[:, :-1][kept], targets[kept]  # (K, V), (K,)
    peak = chosen.max(axis=-1)
    log_total = peak + np.log(np.exp(chosen - peak[:, None]).sum(axis=-1))
    return float((log_total - chosen[np.arange(len(targets)), targets]).mean())
