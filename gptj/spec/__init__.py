"""What GPT-J is: standard library and NumPy only, no framework.

Every fact about the model is written once in this package; backends, loaders and tests read it
from here. Shapes everywhere use these letters:

    B batch        T new tokens    S keys, past + T   E n_embd      H heads     D head_dim
    R rotary_dim   F inner_dim     V vocab            N n_positions L labels
"""

from typing import Final

MASK_VALUE: Final = -3.4028234663852886e38
"""The score of a masked position: float32's lowest value, so its weight is exactly 0."""

ROTARY_BASE: Final = 10_000.0
"""Base of the geometric series of rotary frequencies."""

IGNORE_INDEX: Final = -100
"""A label that the loss ignores."""
