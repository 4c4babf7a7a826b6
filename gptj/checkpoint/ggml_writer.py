"""Write ggml files, which ctransformers runs."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from gptj.checkpoint.ggml_blocks import BLOCK, TYPES, VERSION, quantized
from gptj.checkpoint.ggml_file import FORM, MAGIC, SIZES, VERSIONS
from gptj.checkpoint.ggml_folder import NAME
from gptj.checkpoint.ggml_vocabulary import tokens_of
from gptj.checkpoint.tensor_writing import as_bytes, naming, read_announced
from gptj.errors import UnsupportedFeature
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import head_of
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import replacing

FLOATS: Final = {"float32": "f32", "float16": "f16"}
"""NumPy's name -> the format's, for the dtypes that it can hold."""

EPSILON: Final = 1e-5
ACTIVATION: Final = "gelu_new"
"""What the programs that read the format compute, whatever the model was trained with."""


@dataclass(frozen=True)
class GgmlOptions:
    """What a ggml file is besides a model.

    Attributes:
        blocks: the name of a quantized type for all weights; None keeps their dtype.
        vocabulary: the bytes of the tokens where no tokenizer is beside the weights.
    """

    blocks: str | None = None
    vocabulary: Sequence[bytes] = ()


def check(config: GPTJConfig, tensors: Tensors, options: GgmlOptions) -> None:
    """Refuse a model that the format, or the programs that read it, cannot express.

    Raises:
        UnsupportedFeature: naming the reasons, and a format that can hold it.
    """
    dtypes = {str(tensor.dtype) for tensor in _weights(tensors)}
    is_quantized = options.blocks is not None
    problems = [
        (head_of(tensors) != "causal_lm", f"the head {head_of(tensors)!r}"),
        (config.inner_dim != 4 * config.n_embd, f"n_inner = {config.inner_dim}, not 4 x n_embd"),
        (
            config.layer_norm_epsilon != EPSILON,
            f"layer_norm_epsilon = {config.layer_norm_epsilon}, not {EPSILON}",
        ),
        (
            config.activation_function != ACTIVATION,
            f"activation_function = {config.activation_function!r}, not {ACTIVATION!r}",
        ),
        (
            not is_quantized and (len(dtypes) > 1 or dtypes - FLOATS.keys()),
            f"weights in {', '.join(sorted(dtypes))}, but in one of {', '.join(FLOATS)}",
        ),
        (
            is_quantized and config.n_embd % BLOCK,
            f"n_embd = {config.n_embd} in blocks of {BLOCK}",
        ),
    ]
    found = [what for is_wrong, what in problems if is_wrong]
    if found:
        raise UnsupportedFeature(
            f"The format {FORM!r} cannot hold {' and '.join(found)}. 'safetensors' can."
        )


def write(folder: Path, config: GPTJConfig, tensors: Tensors, options: GgmlOptions) -> None:
    """Write the file into a folder that has the tokenizer, with one tensor in memory at a time.

    Raises:
        CheckpointError: if the disk is full, and for numbers that no quantized block holds.
        TokenizerError: for a tokenizer of which no tokens can be read.
    """
    weight = next(iter(_weights(tensors)))
    label = options.blocks or FLOATS[str(weight.dtype)]
    tokens = tokens_of(folder, config.vocab_size, options.vocabulary)
    if LM_HEAD not in tensors:  # tied: the readers want it all the same
        tensors = {**tensors, LM_HEAD: tensors[EMBEDDING]}
    with replacing(folder / NAME) as file:
        with naming(folder / NAME, "the header"):
            file.write(_header(config, label, tokens))
        for name, tensor in tensors.items():
            with naming(folder / NAME, name):
                _write_tensor(file, name, tensor, label)


def _weights(tensors: Tensors) -> Iterator[LazyTensor]:
    """Yield the tensors that have the file's type: all but the vectors."""
    return (tensor for tensor in tensors.values() if len(tensor.shape) > 1)


def _header(config: GPTJConfig, label: str, tokens: Sequence[bytes]) -> bytes:
    """Return everything before the tensors."""
    kind = TYPES[label]
    ftype = kind.ftype + (VERSION * VERSIONS if kind.bits else 0)
    sizes = [
        config.rotated_dim if name == "rotary_dim" else getattr(config, name) for name in SIZES
    ]
    start = MAGIC + struct.pack(f"<{len(SIZES) + 2}i", *sizes, ftype, len(tokens))
    return start + b"".join(struct.pack("<i", len(token)) + token for token in tokens)


def _write_tensor(file: BinaryIO, name: str, tensor: LazyTensor, label: str) -> None:
    """Write a tensor; vectors are float32 in every file."""
    is_vector = len(tensor.shape) == 1
    kind, key = TYPES["f32" if is_vector else label], name.encode()
    file.write(struct.pack("<3i", len(tensor.shape), len(key), kind.code))
    file.write(struct.pack(f"<{len(tensor.shape)}i", *tensor.shape[::-1]) + key)
    array = read_announced(name, tensor)
    if kind.bits:
        for blocks in quantized(array, kind, name):
            file.write(blocks.tobytes())
    else:
        file.write(as_bytes(np.ascontiguousarray(array, kind.stored)))
