"""Fine-tuning is the same in all frameworks, and each resumes where another stopped."""

import numpy as np
import pytest

import gptj
from finetuning import Killed, kill, losses, stop_at, train, trained
from installed import FRAMEWORKS

pytest.importorskip("matplotlib")
pytest.importorskip("tensorboardX")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.usefixtures("promotion"),
    pytest.mark.skipif(len(FRAMEWORKS) < 2, reason="fewer than two frameworks are installed"),
]

OVERLAY = 2e-4
"""Rounding through a dozen steps of AdamW on the demo model; the largest found is 3e-5."""


def test_the_curves_of_all_frameworks_overlay():
    curves = np.stack([losses(trained(name)) for name in FRAMEWORKS])
    assert np.ptp(curves, axis=0).max() < OVERLAY
    held_out = [[f["held_out_loss"] for f in trained(name).figures] for name in FRAMEWORKS]
    assert np.ptp(held_out, axis=0).max() < OVERLAY


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_folder_serves_in_every_framework(name):
    folder = trained(name).folder
    prompt = gptj.load_tokenizer(folder)("The house is", return_tensors="np")["input_ids"]
    texts = [
        np.asarray(gptj.load(folder, backend=other).generate(prompt, max_new_tokens=4))
        for other in FRAMEWORKS
    ]
    assert all(np.array_equal(text, texts[0]) for text in texts)


def test_a_training_goes_on_in_another_framework(tmp_path, monkeypatch):
    whole = losses(train(FRAMEWORKS[0], tmp_path / "whole"))
    for index, first in enumerate(FRAMEWORKS):
        second = FRAMEWORKS[(index + 1) % len(FRAMEWORKS)]
        with monkeypatch.context() as patch, pytest.raises(Killed):
            stop_at(patch, 5, kill)
            train(first, tmp_path / first, save_every=4)
        assert np.abs(losses(train(second, tmp_path / first)) - whole).max() < OVERLAY
