"""Write a newly initialised checkpoint of any size as a stream."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import DTYPES
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.saving import save_checkpoint
from gptj.errors import ArgumentError, choices
from gptj.generation.options import GenerationConfig
from gptj.hub.names import PRESETS
from gptj.model.config import GPTJConfig
from gptj.spec import config as spec
from gptj.spec.heads import find_head
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from gptj.system.atomic import folder_named
from gptj.tokenizer.lookup import add_tokenizer

STORED: Final = ("float32", "bfloat16", "float16")


def init(
    config: spec.GPTJConfig | str | Path,
    dest: str | Path,
    *,
    head: str = "causal_lm",
    dtype: str = "float32",
    seed: int = 0,
    format: str = "safetensors",
    max_shard_size: int | str = "5GB",
) -> Path:
    """Write a new model, with the values that every backend draws, without any framework.

    Args:
        config: ``"6B"``, a configuration, or a ``config.json``.
        dest: the folder to write.
        head: a name of ``gptj.spec.heads.HEADS``.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        seed: of the draw.
        format: one of the forms that `gptj.convert` writes.
        max_shard_size: bytes of one weight file, as a number or as ``"500MB"``.

    Returns:
        `dest`.

    Raises:
        ArgumentError: for an unknown configuration, head, dtype or format.
    """
    if dtype not in STORED:
        raise ArgumentError(f"There is no dtype {dtype!r} here; accepted are {choices(STORED)}.")
    folder, chosen = folder_named(dest), resolve_config(config)
    chosen.architectures, chosen.dtype = [find_head(head).class_name], dtype
    tensors = {
        name: _initial_tensor(parameter, chosen, seed, DTYPES[dtype])
        for name, parameter in parameter_table(chosen, head).items()
    }
    with byte_progress(tensors, "Drawing") as counted:
        save_checkpoint(
            folder,
            chosen,
            GenerationConfig.from_model(chosen),
            counted,
            format=format,
            max_shard_size=max_shard_size,
            add_files=lambda folder: add_tokenizer(folder, None, chosen),
        )
    return folder


def resolve_config(config: spec.GPTJConfig | str | Path) -> GPTJConfig:
    """Return the configuration of a preset, a JSON file or a folder, or a copy of one.

    Raises:
        ArgumentError: if none has that name.
    """
    if isinstance(config, spec.GPTJConfig):
        return GPTJConfig.from_dict(config.to_dict())
    if isinstance(config, str) and config.lower() in PRESETS:
        return GPTJConfig()  # its defaults are the 6B
    path = Path(config)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ArgumentError(
            f"There is no configuration {str(config)!r}; accepted are '6B', a config.json, and a "
            "folder that holds one."
        )
    return GPTJConfig.from_json_file(path)


def _initial_tensor(
    parameter: Parameter, config: GPTJConfig, seed: int, dtype: np.dtype[Any]
) -> LazyTensor:
    def load() -> npt.NDArray[Any]:
        return initial_value(parameter, config, seed).astype(dtype)

    return LazyTensor(parameter.shape, dtype, load)
