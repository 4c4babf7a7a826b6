"""Names of models -> local files: the demo, presets, paths and hub repositories."""

from gptj.hub.locations import (
    locate,
    locate_adapter,
    locate_base,
    locate_config,
    locate_tokenizer,
)
from gptj.hub.names import OPTIONS, PRESETS, Source, base_name, is_preset, lasting_name

__all__ = [
    "OPTIONS",
    "PRESETS",
    "Source",
    "base_name",
    "is_preset",
    "lasting_name",
    "locate",
    "locate_adapter",
    "locate_base",
    "locate_config",
    "locate_tokenizer",
]
