"""What all data sets share: checking arguments and tokenizing texts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from tokenizers import Encoding

from gptj.datasets.source_files import Record
from gptj.errors import ArgumentError, SequenceTooLong
from gptj.spec.config import GPTJConfig
from gptj.system.progress import progress_bar
from gptj.tokenizer import GPTJTokenizer

GROUP_CHARACTERS: Final = 2**20
"""Characters to tokenise together: enough for all processors, little for memory."""

WORTH_SHOWING: Final = 2**23
"""Bytes of files below which tokenizing takes less than about a second, without a bar."""

Texts = TypeVar("Texts")


def resolve_tokenizer(given: GPTJTokenizer | str | Path | None) -> GPTJTokenizer:
    """Return the tokenizer that was given, the one of a name, or GPT-J's own for None."""
    if given is None:
        return GPTJTokenizer()
    return GPTJTokenizer.from_pretrained(given) if isinstance(given, (str, Path)) else given


def check_length(length: int, config: GPTJConfig | None, tokenizer: GPTJTokenizer) -> None:
    """Check that examples of `length` tokens fit a model.

    Raises:
        ArgumentError: for a length that is no integer above 1, or a vocabulary that the model does
            not have.
        SequenceTooLong: for more tokens than its context holds.
    """
    if not isinstance(length, int) or length < 2:
        raise ArgumentError(f"length must be an integer of 2 or more tokens; found {length!r}.")
    if config is None:
        return
    if length > config.n_positions:
        raise SequenceTooLong(
            f"length={length} is more than the model's context: its n_positions is "
            f"{config.n_positions}. Lower length."
        )
    if len(tokenizer) > config.vocab_size:
        raise ArgumentError(
            f"The tokenizer has {len(tokenizer)} tokens and the model {config.vocab_size}. Give "
            "the model's own tokenizer, or resize the model's embedding first."
        )


def pad_id(tokenizer: GPTJTokenizer) -> int:
    """Return the id that fills examples: the pad token's, else 0, as the mask hides it anyway."""
    return tokenizer.pad_token_id or 0


def token_type(tokenizer: GPTJTokenizer) -> str:
    """Return the smallest of two types that holds every token."""
    return "<u2" if len(tokenizer) <= 2**16 else "<i4"


def groups(items: Iterable[Texts], text: Callable[[Texts], str]) -> Iterator[list[Texts]]:
    """Yield items in lists of about `AT_ONCE` characters."""
    held: list[Texts] = []
    total = 0
    for item in items:
        held.append(item)
        total += len(text(item))
        if total >= GROUP_CHARACTERS:
            yield held
            held, total = [], 0
    if held:
        yield held


def encode(tokenizer: GPTJTokenizer, texts: list[str]) -> list[Encoding]:
    """Return the encodings of texts, without special tokens and without offsets."""
    return tokenizer.bpe.encode_batch_fast(texts, add_special_tokens=False)


def some_tokens(ids: list[int], record: Record, name: str) -> list[int]:
    """Return the token ids of a field.

    Raises:
        DataError: if there is none, naming file and line.
    """
    if not ids:
        raise record.error(f"the text of {name!r} has no token. Write some, or remove the line.")
    return ids


@contextmanager
def reading(files: Sequence[Path]) -> Iterator[Callable[[int], Any]]:
    """Give a function that moves a bar by so many bytes of the files; on a terminal only."""
    total = sum(path.stat().st_size for path in files)
    with progress_bar(total, "B", "Tokenising", hidden=total < WORTH_SHOWING) as bar:
        yield bar.update
