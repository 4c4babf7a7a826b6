"""The tokenizer that belongs to a model: where it is found, and how it is saved with the model."""

import shutil
from functools import lru_cache
from pathlib import Path

from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES
from gptj.spec.config import GPTJConfig
from gptj.spec.vocabulary import VOCAB_SIZE
from gptj.tokenizer.tokenizer import GPTJTokenizer


def add_tokenizer(folder: Path, source: Path | None, config: GPTJConfig) -> None:
    """Copy a model's tokenizer; where it has none, and GPT-J's vocabulary, write GPT-J's own.

    Args:
        folder: where to.
        source: the folder that the model came from, if it came from one.
    """
    found = [source / name for name in TOKENIZER_FILES if source and (source / name).is_file()]
    for path in found:
        shutil.copyfile(path, folder / path.name)
    if not found and config.vocab_size == VOCAB_SIZE:
        GPTJTokenizer().save_pretrained(folder)


@lru_cache(maxsize=4)  # it takes longer to make than a short text to encode
def find_tokenizer(source_folder: Path | None) -> GPTJTokenizer:
    """Return the tokenizer of the folder that a model came from, else GPT-J's own."""
    return (
        GPTJTokenizer() if source_folder is None else GPTJTokenizer.from_pretrained(source_folder)
    )
