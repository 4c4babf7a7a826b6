"""What the tests of engines share: which there are, and calls that all of them take."""

import os

import numpy as np

from gptj.backends import is_installed
from models import draw_ids

REQUIRED = [name for name in os.environ.get("GPTJ_REQUIRE_ENGINES", "").split(",") if name]
ENGINES = [name for name in ("openvino", "ctranslate2") if is_installed(name) or name in REQUIRED]

BATCH, LENGTH = 3, 11
IDS = draw_ids((BATCH, LENGTH), seed=4)
LEFT = np.array([[0] * n + [1] * (LENGTH - n) for n in (0, 3, 7)])
RIGHT = LEFT[:, ::-1].copy()
HOLES = np.array([[1] * 11, [0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1]])

CALLS = {
    "ids alone": {"input_ids": IDS},
    "a mask of ones": {"input_ids": IDS, "attention_mask": np.ones_like(IDS)},
    "left padding": {"input_ids": IDS, "attention_mask": LEFT},
    "right padding": {"input_ids": IDS, "attention_mask": RIGHT},
    "holes in the mask": {"input_ids": IDS, "attention_mask": HOLES},
}


def attended(call):
    """Return which positions of a call mean anything, (B, T)."""
    return call.get("attention_mask", np.ones_like(IDS)) != 0
