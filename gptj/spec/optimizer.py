"""The state of Adam, which a training needs besides the weights to resume elsewhere.

Adam (Kingma and Ba, arXiv:1412.6980) and AdamW (Loshchilov and Hutter, arXiv:1711.05101), which
adds weight decay, keep two moments of every gradient g. After t updates

    m = beta_1 m + (1 - beta_1) g            m_hat = m / (1 - beta_1^t)
    v = beta_2 v + (1 - beta_2) g^2          v_hat = v / (1 - beta_2^t)

PyTorch and Optax update a weight by ``-rate * m_hat / (sqrt(v_hat) + epsilon)``. Keras adds its
epsilon to the uncorrected root, see `keras_epsilon`.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gptj.errors import UnsupportedFeature, choices
from gptj.spec.tensors import Tensors

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class AdamState:
    """The moments of the trained parameters, and the constants of the update.

    Attributes:
        step: the number of updates so far.
        first: canonical name -> m, float32 in canonical orientation. Weights of an adapter have
            their names in ``gptj.spec.lora``.
        second: canonical name -> v, likewise.
        betas: decay rates of the two moments; None where the optimizer hides them.
        epsilon: added to the corrected root, as in PyTorch; None likewise.
    """

    step: int
    first: Tensors
    second: Tensors
    betas: tuple[float, float] | None = None
    epsilon: float | None = None


def keras_epsilon(epsilon: float, beta_2: float, step: int) -> float:
    """Return the epsilon that makes Keras's update `step`, from 1, equal to PyTorch's.

    Keras: ``rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + e)``. With
    ``e = epsilon * sqrt(1 - beta_2^t)`` that is ``rate * m_hat / (sqrt(v_hat) + epsilon)``.
    """
    return epsilon * math.sqrt(1.0 - beta_2**step)


def pytorch_epsilon(epsilon: float, beta_2: float, step: int) -> float:
    """Return the epsilon that makes PyTorch's update `step`, from 1, equal to Keras's.

    The inverse of `keras_epsilon`.
    """
    return epsilon / math.sqrt(1.0 - beta_2**step)


def check_nothing_lost(lost: Sequence[str], whole: str) -> None:
    """Refuse an optimizer with arrays besides the moments, without which updates are others.

    Args:
        lost: what they are called in the optimizer.
        whole: what saves all of an optimizer.

    Raises:
        UnsupportedFeature: naming them, unless there are none.
    """
    if lost:
        raise UnsupportedFeature(
            f"The optimizer's {choices(lost)} would be lost: what is saved are the two moments of "
            "Adam and the number of updates. Gradients that accumulate are empty at the end of a "
            f"cycle: save then. Save any other whole state with {whole}."
        )


def name_left_out(names: Sequence[str]) -> None:
    """Log one warning of the numbers that are not moved, if there are any."""
    if names:
        log.warning(
            "The optimizer's %s is not moved with its moments: set it where the optimizer is made.",
            choices(names),
        )
