"""A file of activations or logits, captured anywhere: ``--against FILE``, .npz or .safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from gptj.checkpoint import safetensors
from gptj.diagnosis.computation import Inputs
from gptj.diagnosis.evidence import LOGITS, PROBS
from gptj.errors import ArgumentError, CheckpointError, choices, suggest
from gptj.model.config import GPTJConfig
from gptj.parity.target import Array, Target, check_shape
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.module_names import module_names

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
POSITIONS: Final = "position_ids"
PROMPT: Final = "prompt_length"
CACHED: Final = ("attn.key", "attn.value")
"""What a layer's cache holds, (B, H, T, D): rotated keys, and values."""

KINDS: Final = (".npz", ".safetensors")


def file_target(config: GPTJConfig, path: Path) -> Target:
    """Read a file of named arrays.

    Raises:
        ArgumentError: for another kind of file, no ids, an unknown name or another shape.
    """
    arrays = _read(path)
    if IDS not in arrays:
        raise ArgumentError(
            f"{path} has no {IDS!r}, without which nothing can be computed beside it. It has "
            f"{choices(arrays) or 'nothing'}."
        )
    ids = _ids(arrays.pop(IDS), config, path)
    mask, positions, prompt = (arrays.pop(name, None) for name in (MASK, POSITIONS, PROMPT))
    named = {_canonical(config, name, path): array for name, array in arrays.items()}
    if not named:
        raise ArgumentError(
            f"{path} has inputs and no outputs: add 'logits', or outputs of modules, such as "
            "'transformer.h.0.mlp'."
        )
    for name, array in named.items():
        check_shape(name, array, _shape(config, name, ids.shape), str(path))
    inputs = Inputs(ids, *(None if x is None else _rows(x, ids, path) for x in (mask, positions)))
    return Target(str(path), inputs, named, None if prompt is None else int(np.ravel(prompt)[0]))


def _read(path: Path) -> dict[str, Array]:
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as content:
                return dict(content)
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{path} cannot be read: {error}.") from error
    if path.suffix == ".safetensors":
        try:
            return {name: tensor.read() for name, tensor in safetensors.read(path).items()}
        except CheckpointError as error:
            raise ArgumentError(f"{path} cannot be read: {error}") from error
    raise ArgumentError(f"{path} is neither of {choices(KINDS)}.")


def _ids(ids: Array, config: GPTJConfig, path: Path) -> Array:
    ids = np.atleast_2d(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ArgumentError(f"{path}: {IDS} are integers (batch, length), not {ids.dtype}.")
    if ids.size == 0 or ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ArgumentError(
            f"{path}: {IDS} are at least one, from 0 to {config.vocab_size - 1}, the vocabulary of "
            "the checkpoint."
        )
    if ids.shape[1] > config.n_positions:
        raise ArgumentError(
            f"{path}: {IDS} are {ids.shape[1]} tokens long; the model has {config.n_positions} "
            "positions."
        )
    return ids.astype(np.int64)


def _rows(array: Array, ids: Array, path: Path) -> Array:
    array = np.broadcast_to(np.atleast_2d(array), ids.shape) if np.ndim(array) < 2 else array
    check_shape("a mask, or positions,", array, ids.shape, str(path))
    return array


def _canonical(config: GPTJConfig, name: str, path: Path) -> str:
    known = [*module_names(config, "causal_lm"), *_beside(config)]
    for candidate in (LOGITS if name == "logits" else name, BASE_PREFIX + name):
        if candidate in known:
            return candidate
    raise ArgumentError(
        f"{path}: {name!r} is no module of the model.{suggest(name, known)} Names are {known[0]!r}"
        f" and so on to {known[-1]!r}, and 'logits'; inputs are {choices((IDS, MASK, POSITIONS))}."
    )


def _beside(config: GPTJConfig) -> list[str]:
    layers = range(config.n_layer)
    return [f"{BASE_PREFIX}h.{layer}.{part}" for layer in layers for part in (PROBS, *CACHED)]


def _shape(config: GPTJConfig, name: str, ids: tuple[int, ...]) -> tuple[int, ...]:
    batch, length = ids
    if name.endswith(PROBS):
        return batch, config.n_head, length, length
    if name.endswith(CACHED):
        return batch, config.n_head, length, config.head_dim
    widths: Mapping[str, Any] = {LOGITS: config.vocab_size}
    inner = config.inner_dim if name.endswith("mlp.fc_in") else config.n_embd
    return batch, length, widths.get(name, inner)
