"""The oracle: GPT-J in float64 NumPy, written to be read next to the papers.

It takes any mapping from canonical names to arrays (or anything NumPy can convert, such as the lazy
tensors of a checkpoint) and runs one layer at a time, so it holds a single block of a large model.
The backward pass, which returns a gradient for every parameter, holds all gradients.
"""

from gptj.spec.reference.backward import backward
from gptj.spec.reference.forward import forward
from gptj.spec.reference.losses import (
    causal_lm_loss,
    classification_loss,
    question_answering_loss,
)

__all__ = [
    "backward",
    "causal_lm_loss",
    "classification_loss",
    "forward",
    "question_answering_loss",
]
