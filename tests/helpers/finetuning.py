"""What the tests of fine-tuning share: texts, a small model, and trainings."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np

import gptj
from gptj.model.config import GPTJConfig
from gptj.training.loop import Loop
from models import short_demo
from rules import write_sentences

SMALL = {
    "length": 32,
    "batch_size": 4,
    "max_steps": 8,
    "learning_rate": 1e-3,
    "evaluate_every": 4,
    "save_every": 8,
    "quiet": True,
}
DEMO = {
    "length": 32,
    "batch_size": 4,
    "epochs": 2,
    "max_steps": 12,
    "learning_rate": 5e-4,
    "evaluate_every": 6,
    "save_every": 12,
    "quiet": True,
}


@cache
def material():
    """Return texts, a place for their tokens, and a model that is small but for its vocabulary."""
    holder = TemporaryDirectory(prefix="gptj-finetuning-")
    folder = Path(holder.name)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4, "n_positions": 64}
    small = gptj.init(GPTJConfig(**sizes, initializer_range=0.1), folder / "small")
    text = write_sentences(folder / "colours.txt", 120, seed=0)
    return SimpleNamespace(holder=holder, folder=folder, text=text, small=small)


def train(framework, output, *, model=None, data=None, **options):
    """Train the small model on the sentences, unless the options say otherwise."""
    given = {**SMALL, "backend": framework, "cache_dir": material().folder / "cache", **options}
    return gptj.finetune(model or material().small, data or material().text, output, **given)


@cache
def trained(framework):
    """Train two layers of the demo model on the sentences, once."""
    return train(framework, material().folder / framework, model=short_demo(), **DEMO)


def losses(done):
    """Return the loss of every step."""
    return np.array([record["loss"] for record in done.records if "loss" in record])


class Killed(BaseException):
    """Nobody catches this."""


def kill():
    """End a training as a signal would that cannot be caught."""
    raise Killed


def stop_at(monkeypatch, step, how):
    """Let something happen before a step."""
    own = Loop._step

    def stopped(self, rows):
        if self.progress.step == step:
            how()
        return own(self, rows)

    monkeypatch.setattr(Loop, "_step", stopped)
