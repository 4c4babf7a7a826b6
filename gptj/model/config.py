"""The configuration as users have it: that of the specification, and where to find one."""

from os.path import lexists
from pathlib import Path
from typing import Any, Final, Self, Unpack

from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError
from gptj.hub import locate, locate_config
from gptj.hub.upload import Uploads
from gptj.model.options import ConfigOptions
from gptj.spec import config as spec

WITHOUT_EFFECT: Final = ("trust_remote_code", "finetuning_task")
"""What old scripts pass, for other architectures and for the page of a model."""


class GPTJConfig(Uploads, spec.GPTJConfig):
    __doc__ = spec.GPTJConfig.__doc__

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Unpack[ConfigOptions]) -> Self:
        """Read the configuration of a preset, a folder or a hub id.

        Fields of the configuration among `options` are set on top; the rest says where to look
        (``revision``, ``cache_dir``, ``local_files_only``, ``token``, ``subfolder``). Weights
        without a ``config.json`` show the sizes, as in `gptj.load`, and a warning says what is
        assumed.

        Raises:
            ConfigError: if the file is not the JSON of a GPT-J configuration.
            CheckpointError: if there is none, and no weights that show what it would say.
        """
        known = spec.argument_names()
        where: dict[str, Any] = {k: v for k, v in options.items() if k not in WITHOUT_EFFECT}
        changes = {key: where.pop(key) for key in list(where) if key in known}
        path = locate_config(name, **where)
        if lexists(path):
            return cls.from_json_file(path, **changes)
        try:
            checkpoint = open_checkpoint(locate(name, weights=False, **where))
        except CheckpointError as error:
            raise CheckpointError(
                f"{path} is missing, and nothing beside it shows the sizes: {error}"
            ) from error
        return cls.from_dict(checkpoint.config(changes=changes), **changes)
