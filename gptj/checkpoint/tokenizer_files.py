"""Names of the tokenizer's files beside the weights."""

from os.path import lexists
from pathlib import Path
from typing import Final

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)


def files_of_tokenizer(folder: Path) -> list[Path]:
    """Return what has the name of a tokenizer's file in a folder; readers say if it is none."""
    return [folder / name for name in TOKENIZER_FILES if lexists(folder / name)]


def old_tokenizer(folder: Path, names: set[str]) -> set[str]:
    """Return the files of the tokenizer in a folder, if new files bring another one."""
    has_new = any(name in names for name in TOKENIZER_FILES)
    return {name for name in TOKENIZER_FILES if has_new and (folder / name).is_file()}
