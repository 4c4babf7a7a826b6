"""The options of loading as keyword arguments, for type checkers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from gptj.hub.options import HubOptions
from gptj.spec import config as spec
from gptj.spec.config_fields import ConfigFields
from gptj.spec.types import Device, DType


class ConfigOptions(HubOptions, ConfigFields, total=False):
    """What ``GPTJConfig.from_pretrained`` takes besides a name."""

    # accepted for the sake of old code, and without effect
    trust_remote_code: bool
    finetuning_task: str | None


class LoadOptions(ConfigOptions, total=False):
    """What every backend's models take besides a name: see ``load_model``."""

    config: spec.GPTJConfig | None
    device: Device
    ignore_mismatched_sizes: bool
    strict: bool
    quantize: str | None
    seed: int
    # accepted for the sake of old code, and without effect
    from_pt: bool
    from_tf: bool
    from_flax: bool
    low_cpu_mem_usage: bool
    use_safetensors: bool


class TorchOptions(LoadOptions, total=False):
    """What PyTorch's models take besides."""

    attn_implementation: str
    device_map: Device | Mapping[str, Device]
    max_memory: Mapping[Any, str | int] | None


class TFOptions(LoadOptions, total=False):
    """What Keras's models take besides: nothing more."""


class FlaxOptions(LoadOptions, total=False):
    """What Flax's models take besides."""

    input_shape: tuple[int, ...]
    param_dtype: DType
    sharding: object
    scan_layers: bool


class EngineOptions(LoadOptions, total=False):
    """What the models of engines take besides."""

    engine_cache: str | Path | None


class AnyOptions(TorchOptions, FlaxOptions, EngineOptions, total=False):
    """What the models of one backend or another take."""


class LoraOptions(TypedDict, total=False):
    """What ``model.add_lora`` takes."""

    rank: int
    alpha: float
    dropout: float
    targets: str | Iterable[str]
    seed: int
    modules_to_save: Iterable[str] | None
    use_rslora: bool
    rank_pattern: Mapping[str, int] | None
    alpha_pattern: Mapping[str, float] | None
