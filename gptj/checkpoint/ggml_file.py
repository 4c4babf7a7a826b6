"""``ggml-model*.bin``: the ggml files of ctransformers and of llama.cpp's early examples.

Sizes, then the vocabulary, then tensors with PyTorch's names, one after the other up to the end of
the file. Of this form were the GPT-J files of gpt4all-j and pygmalion.cpp.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.byte_cursor import AGAIN, ByteCursor
from gptj.checkpoint.ggml_blocks import BLOCK, QUANTIZED, TYPES, VERSION, NumberType, dequantized
from gptj.checkpoint.memory_map import map_array
from gptj.errors import QUOTED, CheckpointError, ConfigError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.params import EMBEDDING, parameter_table
from gptj.spec.tensors import LazyTensor
from gptj.spec.vocabulary import EOS_TOKEN
from gptj.system.file_kinds import foreign_kind, naming_downloads, require_file

MAGIC: Final = b"lmgg"
FORM: Final = "ggml"

SIZES: Final = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "rotary_dim")
"""The configuration's fields in the order of the header; ftype follows."""

VERSIONS: Final = 1000
"""The ftype of quantized weights is this much larger for every version of their blocks."""

MOST_TOKENS: Final = 2**20
MOST_TENSORS: Final = 10_000
MOST_NAME_BYTES: Final = 256
"""More than any model has: a damaged file may claim more."""


@dataclass(frozen=True)
class GgmlFile:
    """What a file holds.

    Attributes:
        sizes: fields of the configuration.
        vocabulary: the bytes of every token, in order of ids.
        tensors: handles by name; quantized ones are read as float32.
        quantized: the names of the types of quantized tensors.
    """

    sizes: dict[str, int]
    vocabulary: list[bytes]
    tensors: dict[str, LazyTensor]
    quantized: tuple[str, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration's fields that the file shows."""
        end = EOS_TOKEN.encode()
        index = self.vocabulary.index(end) if end in self.vocabulary else None
        return {**self.sizes, "bos_token_id": index, "eos_token_id": index}


def is_ggml(path: Path) -> bool:
    """Return whether a file begins like one of this form."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: Path) -> GgmlFile:
    """Return a file's header, and handles on its tensors.

    Raises:
        CheckpointError: if the file is damaged, cut short, of another model, or has blocks of an
            earlier version.
    """
    with _opened(path) as cursor:
        return _read(cursor)


def read_vocabulary(path: Path) -> list[bytes]:
    """Return the bytes of every token of a file, in order of ids.

    Raises:
        CheckpointError: if they cannot be read.
    """
    with _opened(path) as cursor:
        sizes, _ = _header(cursor)
        return _vocabulary(cursor, sizes["vocab_size"])


@contextmanager
def _opened(path: Path) -> Iterator[ByteCursor]:
    """Open a file at its beginning."""
    require_file(path)
    try:
        with naming_downloads(path), path.open("rb") as file:
            yield ByteCursor(path, file, path.stat().st_size)
    except (PermissionError, FileNotFoundError) as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def _read(cursor: ByteCursor) -> GgmlFile:
    """Return what a file holds from its beginning on."""
    sizes, ftype = _header(cursor)
    vocabulary = _vocabulary(cursor, sizes["vocab_size"])
    tensors: dict[str, LazyTensor] = {}
    kinds: set[str] = set()
    while cursor.left:
        name, tensor, kind = _tensor(cursor)
        if name in tensors:
            raise cursor.damaged(f"{name[:QUOTED]} stands there twice, so it is")
        if len(tensors) == MOST_TENSORS:
            raise CheckpointError(f"{cursor.path} is damaged: it has over {MOST_TENSORS} tensors.")
        tensors[name] = tensor
        kinds.add(kind)
    quantized = tuple(sorted(kinds.intersection(QUANTIZED)))
    _check_version(cursor.path, quantized, ftype)
    _check_complete(cursor.path, sizes, tensors)
    return GgmlFile(sizes, vocabulary, tensors, quantized)


def _header(cursor: ByteCursor) -> tuple[dict[str, int], int]:
    """Return the sizes and the ftype, checked as far as they go alone."""
    path = cursor.path
    if cursor.left < len(MAGIC) or cursor.take(len(MAGIC), "the magic number") != MAGIC:
        about = foreign_kind(path) or f"it does not begin with {MAGIC!r}. {AGAIN}"
        raise CheckpointError(f"{path} is not a ggml file: {about}")
    *values, ftype, count = cursor.numbers(len(SIZES) + 2, "the header")
    sizes = dict(zip(SIZES, values, strict=True))
    if count != sizes["vocab_size"]:
        raise CheckpointError(
            f"{path} has no header of a GPT-J in ggml: vocab_size = {sizes['vocab_size']}, and "
            f"{count} tokens. It is damaged, or the file of another model: those of GPT-2, "
            "GPT-NeoX or LLaMA begin alike, and gptj does not read them."
        )
    names = {kind.ftype: name for name, kind in TYPES.items()}
    if ftype < 0 or ftype % VERSIONS not in names:
        raise CheckpointError(
            f"{path} has weights of ftype {ftype}; gptj reads {', '.join(TYPES)}, which are "
            f"{', '.join(map(str, names))} without the version."
        )
    _check_version(path, {names[ftype % VERSIONS]}.intersection(QUANTIZED), ftype)
    wrong = [f"{name} = {value}" for name, value in sizes.items() if value <= 0]
    if wrong or count > MOST_TOKENS:
        raise CheckpointError(
            f"{path} is damaged: its header has {', '.join(wrong) or f'{count} tokens'}. {AGAIN}"
        )
    try:
        GPTJConfig.from_dict({**sizes, "bos_token_id": None, "eos_token_id": None})
    except ConfigError as error:
        raise CheckpointError(f"{path} has the header of no model: {error} {AGAIN}") from error
    return sizes, ftype


def _vocabulary(cursor: ByteCursor, count: int) -> list[bytes]:
    tokens = []
    for index in range(count):
        (length,) = cursor.numbers(1, f"token {index}")
        if length < 0:
            raise cursor.damaged(f"token {index} has {length} bytes, so it is")
        tokens.append(cursor.take(length, f"token {index}"))
    return tokens


def _tensor(cursor: ByteCursor) -> tuple[str, LazyTensor, str]:
    """Return the next tensor: its name, a handle, and the name of its type."""
    axes, length, code = cursor.numbers(3, "the header of a tensor")
    if axes not in (1, 2) or not 0 < length <= MOST_NAME_BYTES:
        raise cursor.damaged(f"a tensor of {axes} axes has a name of {length} bytes, so it is")
    shape = cursor.numbers(axes, "the shape of a tensor")[::-1]  # the file has the inputs first
    name = cursor.take(length, "the name of a tensor").decode("utf-8", "replace")
    found = {kind.code: (label, kind) for label, kind in TYPES.items()}.get(code)
    if found is None:
        raise CheckpointError(
            f"{cursor.path}: {name[:QUOTED]} has numbers of type {code}; gptj reads "
            f"{', '.join(f'{kind.code} ({label})' for label, kind in TYPES.items())}."
        )
    label, kind = found
    if min(shape) <= 0 or shape[-1] % kind.per_block:
        raise cursor.damaged(f"{name[:QUOTED]} has the shape {shape}, in {label}, so it is")
    rows = int(np.prod(shape[:-1], dtype=object))
    size = rows * (shape[-1] // kind.per_block) * kind.stored.itemsize
    place = cursor.skip(size, f"{name[:QUOTED]}, {shape}, in {label}")
    return name, _handle(cursor.path, kind, place, shape), label


def _handle(path: Path, kind: NumberType, place: int, shape: tuple[int, ...]) -> LazyTensor:
    """Return a handle: a memory map, or blocks that are dequantized when they are read."""
    if not kind.bits:
        return LazyTensor(shape, kind.stored, lambda: map_array(path, kind.stored, place, shape))

    def load() -> npt.NDArray[np.float32]:
        blocks = (int(np.prod(shape[:-1])), shape[-1] // BLOCK)
        return dequantized(map_array(path, kind.stored, place, blocks), kind).reshape(shape)

    return LazyTensor(shape, np.dtype(np.float32), load)


def _check_version(path: Path, quantized: Collection[str], ftype: int) -> None:
    """Refuse blocks of another version, whose sizes are others too."""
    if quantized and ftype // VERSIONS != VERSION:
        raise CheckpointError(
            f"{path} holds {choices(quantized)} in blocks of version {ftype // VERSIONS}; gptj "
            f"reads those of version {VERSION}, of May 2023. Quantize the model again, or get it "
            "as f16."
        )


def _check_complete(path: Path, sizes: dict[str, int], tensors: dict[str, LazyTensor]) -> None:
    """Refuse a file that lacks tensors, as one does that was cut between two of them."""
    layers = sizes["n_layer"]
    table = parameter_table(GPTJConfig(n_layer=min(layers, len(tensors) + 1)))
    missing = [name for name in table if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{path} is cut short or damaged: its header has {layers} layers, and it lacks "
            f"{len(missing)} tensors, from {missing[0]} on. {AGAIN}"
        )
    wanted, found = (sizes["vocab_size"], sizes["n_embd"]), tensors[EMBEDDING].shape
    if found != wanted:
        raise CheckpointError(
            f"{path} is damaged: its header has a vocabulary and a width of {wanted}, "
            f"{EMBEDDING} has {found}. {AGAIN}"
        )
