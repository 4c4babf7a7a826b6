"""Find the tokenizer of a model, and save it with the model."""

import logging
import shutil
from functools import lru_cache
from pathlib import Path

from gptj.checkpoint.folder import ggml_files
from gptj.checkpoint.snapshot import state_of
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES, files_of_tokenizer
from gptj.errors import TokenizerError
from gptj.spec.config import GPTJConfig
from gptj.spec.vocabulary import VOCAB_SIZE
from gptj.system.file_kinds import require_file
from gptj.tokenizer.ggml_tokens import has_other_tokens
from gptj.tokenizer.tokenizer import GPTJTokenizer

log = logging.getLogger("gptj")


def add_tokenizer(folder: Path, source: Path | None, config: GPTJConfig) -> None:
    """Copy a model's tokenizer; without one, write GPT-J's if the vocabulary has its size.

    Args:
        folder: the target.
        source: the model's source folder, if any.
    """
    found = files_of_tokenizer(source) if source else []
    for path in found:
        require_file(path, TokenizerError)
        shutil.copyfile(path, folder / path.name)
    if found:
        return
    if source is not None and has_other_tokens(source):
        log.warning(
            "%s has a ggml file of other tokens than GPT-J's, without merges: no tokenizer is "
            "written. Put the model's own there.",
            source,
        )
    elif config.vocab_size == VOCAB_SIZE:
        GPTJTokenizer().save_pretrained(folder)


def find_tokenizer(source_folder: Path | None) -> GPTJTokenizer:
    """Return the tokenizer of a model's source folder, or GPT-J's if there is none.

    It is remembered as long as its files are the same: another model may take their place.
    """
    if source_folder is None:
        return _built_in()
    folder = Path(source_folder)
    weights = [] if files_of_tokenizer(folder) else ggml_files(folder)
    state = state_of([*(folder / name for name in TOKENIZER_FILES), *weights])
    return _read(folder, tuple(state.items()))


def known_tokenizer(folder: Path, config: GPTJConfig) -> GPTJTokenizer | None:
    """Return a folder's tokenizer, GPT-J's where the vocabulary has its size, else None."""
    if files_of_tokenizer(folder):
        return find_tokenizer(folder)
    return _built_in() if config.vocab_size == VOCAB_SIZE else None


@lru_cache(maxsize=1)
def _built_in() -> GPTJTokenizer:
    return GPTJTokenizer()


@lru_cache(maxsize=4)  # making one takes longer than encoding a short text
def _read(folder: Path, state: tuple[tuple[Path, tuple[int, ...] | None], ...]) -> GPTJTokenizer:
    """Return the tokenizer of a folder; `state` is what its files are."""
    return GPTJTokenizer.from_pretrained(folder)
