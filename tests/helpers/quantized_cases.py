"""Small quantized models: their weights, and the same models in every backend."""

from functools import cache

import numpy as np

from gptj.backends import get_backend
from gptj.checkpoint.folder import open_checkpoint
from gptj.model.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.quantization import INT8, description_of
from gptj.spec.quantized_tensors import dequantized_tensors, quantized_tensors
from gptj.spec.tensors import LazyTensor
from models import tiny_config, tiny_weights


def arrays(folder):
    """Return the tensors of a checkpoint by name."""
    return {name: tensor.read() for name, tensor in open_checkpoint(folder).tensors.items()}


def configuration(folder):
    """Return the configuration of a checkpoint."""
    return GPTJConfig.from_dict(open_checkpoint(folder).config())


def quantized_config(quantize=INT8, **changes):
    """Return the configuration of ``weights/tiny``, with quantized weights."""
    return GPTJConfig.from_dict(
        tiny_config(**changes).to_dict(), quantization_config=description_of(quantize)
    )


@cache
def quantized_weights(head="causal_lm", quantize=INT8, **changes):
    """Return the weights of ``models.tiny_model`` quantized, with their scales, as handles."""
    tensors = {name: LazyTensor.of(w) for name, w in tiny_weights(head, **changes).items()}
    table = parameter_table(quantized_config(quantize, **changes), head)
    found = quantized_tensors(tensors, table)
    return {name: LazyTensor.of(tensor.read()) for name, tensor in found.items()}


def meant_weights(head="causal_lm", **changes):
    """Return what they mean, as float64 arrays."""
    config = quantized_config(**changes)
    tensors = dequantized_tensors(config, quantized_weights(head, **changes), np.float64)
    return {name: np.asarray(tensor.read(), np.float64) for name, tensor in tensors.items()}


def quantized_model(name, head="causal_lm", dtype="float32", **changes):
    """Return a fresh quantized model in one backend."""
    tensors = quantized_weights(head, **changes)
    config = quantized_config(**changes)
    return get_backend(name).build(config, head, params=tensors, dtype=dtype)
