"""A checkpoint in any form, small enough to damage every byte of it."""

import os

from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor

CONFIG = GPTJConfig(vocab_size=16, n_positions=8, n_embd=16, n_layer=1, n_head=8, rotary_dim=2)
TENSORS = {
    name: LazyTensor.of(initial_value(p, CONFIG)) for name, p in parameter_table(CONFIG).items()
}
"""Small, so that most bytes are structure."""


def save(folder, form, **options):
    save_checkpoint(folder, CONFIG, GenerationConfig(), TENSORS, format=form, **options)
    return folder


def read_all(path):
    """Open a checkpoint and read every tensor of a sensible size; a bad file may say any."""
    for tensor in open_checkpoint(path).tensors.values():
        if tensor.nbytes < 2**24:
            tensor.read()


class Shell:
    """A pickle of this runs a command when Python reads it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)
