"""Folders with a small model, and with an adapter of it."""

import json

import pytest

import gptj
from gptj.backends import get_backend
from gptj.checkpoint.adapter_files import write_adapter
from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.tensors import LazyTensor
from installed import FRAMEWORKS
from lora_cases import drawn, small_config, small_weights

FIRST = FRAMEWORKS[0] if FRAMEWORKS else "numpy"
needs_framework = pytest.mark.skipif(not FRAMEWORKS, reason="no framework has adapters")
LORA = LoraConfig(rank=3, alpha=6)


def save_base(folder, head="causal_lm", **changes):
    """Write the tiny base model of ``lora_cases``."""
    config = GPTJConfig.from_dict(small_config(**changes).to_dict())
    tensors = {n: LazyTensor.of(w) for n, w in small_weights(head, **changes).items()}
    save_checkpoint(folder, config, GenerationConfig(), tensors)
    return folder


def save_adapter(folder, base, lora=LORA, head="causal_lm", *, like=None, **changes):
    """Write an adapter of drawn values for a base of that name; `like` changes its fields."""
    tensors = {n: LazyTensor.of(w) for n, w in drawn(lora, head, **changes).items()}
    write_adapter(folder, lora, head, tensors, None if base is None else str(base))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (like or {})))
    return folder


def load(folder, **options):
    """Load a name with the first framework."""
    return gptj.load(folder, backend=FIRST, **options)


def adapter_of(model):
    """Return the adapter of a model as arrays."""
    dumped = get_backend(model.backend_name).dump_adapter(model)
    return {name: tensor.read() for name, tensor in dumped.items()}
