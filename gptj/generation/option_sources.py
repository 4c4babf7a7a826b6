"""Where each option of a checkpoint comes from: its own file, or the model's configuration."""

from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.errors import ConfigError
from gptj.generation.options import (
    CONFIG,
    FILE_NAME,
    TASKS,
    GenerationConfig,
    config_options,
    option_names,
    prompt_prefix,
    task_options,
)
from gptj.spec.config import GPTJConfig
from gptj.system.json_files import read_json

SPECIAL: Final = ("bos_token_id", "eos_token_id", "pad_token_id")


def option_sources(folder: Path, config: GPTJConfig) -> dict[str, dict[str, Any]]:
    """Return the options that a checkpoint sets: name -> its `value` and the file it is `from`.

    Raises:
        ConfigError: if the file of options is not JSON.
        ArgumentError: if the configuration's parts for text are of another kind.
    """
    path, known = folder / FILE_NAME, option_names()
    own = read_json(path, ConfigError) if lexists(path) else None
    found, source = (config_options(config), CONFIG) if own is None else (own, FILE_NAME)
    given = {name: (found[name], source) for name in found if name in known}
    given = {name: pair for name, pair in given.items() if pair[0] is not None}
    for name in SPECIAL:
        given.setdefault(name, (getattr(config, name), CONFIG))
    default = GenerationConfig()
    for name, value in task_options(config).items():
        if name in known and given.get(name, (getattr(default, name),))[0] == getattr(
            default, name
        ):
            given[name] = (value, TASKS)
    if prefix := prompt_prefix(config):
        given["prefix"] = (prefix, CONFIG)
    return {
        name: {"value": value, "from": source}
        for name, (value, source) in given.items()
        if value is not None
    }
