"""The state of Adam: what has to move with the weights so that a training goes on elsewhere.

Adam (Kingma and Ba, arXiv:1412.6980) keeps two moments of every gradient g, and with decay of the
weights it keeps the same (AdamW, Loshchilov and Hutter, arXiv:1711.05101): after t updates

    m = beta_1 m + (1 - beta_1) g            m_hat = m / (1 - beta_1^t)
    v = beta_2 v + (1 - beta_2) g^2          v_hat = v / (1 - beta_2^t)

PyTorch and Optax move a weight by ``-rate * m_hat / (sqrt(v_hat) + epsilon)``. Keras adds its
epsilon to the root that is not corrected yet, see `keras_epsilon`.
"""

import math
from dataclasses import dataclass

from gptj.spec.tensors import Tensors


@dataclass(frozen=True)
class AdamState:
    """The moments of the parameters that are trained, and how they are used.

    Attributes:
        step: how many updates were done.
        first: canonical name -> m, float32 in canonical orientation. Weights of an adapter have
            their names of ``gptj.spec.lora``.
        second: canonical name -> v, likewise.
        betas: how slowly the two change; None where the optimizer does not tell.
        epsilon: added outside of the corrected root, as PyTorch does; None likewise.
    """

    step: int
    first: Tensors
    second: Tensors
    betas: tuple[float, float] | None = None
    epsilon: float | None = None


def keras_epsilon(epsilon: float, beta_2: float, step: int) -> float:
    """Return the epsilon with which update `step`, counted from 1, is PyTorch's in Keras.

    Keras: ``rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + e)``. With
    ``e = epsilon * sqrt(1 - beta_2^t)`` that is ``rate * m_hat / (sqrt(v_hat) + epsilon)``.
    """
    return epsilon * math.sqrt(1.0 - beta_2**step)


def pytorch_epsilon(epsilon: float, beta_2: float, step: int) -> float:
    """Return the epsilon with which update `step`, counted from 1, is Keras's in PyTorch.

    The inverse of `keras_epsilon`.
    """
    return epsilon / math.sqrt(1.0 - beta_2**step)
