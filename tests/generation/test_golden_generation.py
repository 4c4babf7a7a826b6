"""Generated tokens against those of transformers 4.56.2 in PyTorch, in every backend.

``golden/generation.json`` holds requests and what was written: greedy text, beams and groups of
beams with penalties, blocked n-grams, forbidden and forced tokens, and padding on the left.
"""

import json

import numpy as np
import pytest

from models import load
from paths import GOLDEN

CASES = json.loads((GOLDEN / "generation.json").read_text(encoding="utf-8"))


def describe(case):
    kept = ("max_new_tokens", "pad_token_id")
    return ",".join(f"{k}={v}" for k, v in case["options"].items() if k not in kept)


@pytest.mark.frameworks
@pytest.mark.parametrize("case", CASES, ids=describe)
def test_tokens_equal_those_of_another_system(framework, case):
    model = load(framework.name, GOLDEN / case["checkpoint"] / "checkpoint")
    found = model.generate(
        np.array(case["input_ids"]),
        np.array(case["attention_mask"]),
        return_dict_in_generate=True,
        output_scores=True,
        **case["options"],
    )
    np.testing.assert_array_equal(framework.to_numpy(found.sequences), case["sequences"])
    if "sequences_scores" in case:
        scores = framework.to_numpy(found.sequences_scores)
        np.testing.assert_allclose(scores, case["sequences_scores"], rtol=1e-4, atol=1e-4)


@pytest.mark.neutral
def test_the_requests_try_what_they_should():
    used = {name for case in CASES for name in case["options"]}
    assert {"num_beams", "num_beam_groups", "no_repeat_ngram_size", "min_length"} <= used
    assert {"repetition_penalty", "bad_words_ids", "sequence_bias", "forced_eos_token_id"} <= used
    assert {case["options"].get("early_stopping") for case in CASES} >= {True, False, "never"}
    assert {case["options"].get("num_beams", 1) for case in CASES} == {1, 2, 3, 4}
