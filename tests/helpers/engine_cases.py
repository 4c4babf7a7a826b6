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

PROMPTS = (
    "def fibonacci(n):",
    "import os",
    "class Stack:",
    "x = 1\nfor i in",
    "if __name__ ==",
    "try:",
    "return",
    "with open(path) as",
    "    self.",
    "# A comment",
    "print(",
    "import numpy as",
)
REQUESTS = {
    "sampled": {"do_sample": True, "seed": 7, "temperature": 0.9, "top_k": 40},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "groups of beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "drafted": {"prompt_lookup_num_tokens": 3},
    "penalised": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    "not before its time": {"min_new_tokens": 4, "eos_token_id": [198, 13]},
    "ended": {"eos_token_id": [198, 13], "pad_token_id": 7},
    "without a cache": {"use_cache": False},
}


def attended(call):
    """Return which positions of a call mean anything, (B, T)."""
    return call.get("attention_mask", np.ones_like(IDS)) != 0
