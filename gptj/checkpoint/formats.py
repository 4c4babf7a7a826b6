"""The published forms of a GPT-J: their files, and the names of their tensors.

A form is one file, or several with an index from tensors to files. The first forms are preferred:
they can be mapped without a copy, and hold every dtype.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gptj.checkpoint import (
    h5,
    msgpack,
    msgpack_writer,
    pytorch_bin,
    pytorch_bin_writer,
    safetensors,
)
from gptj.checkpoint.memory_map import DTYPES
from gptj.errors import CheckpointError, UnsupportedFeature, choices
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.weight_names import DIALECTS, TF_MODELS, Dialect
from gptj.system.file_kinds import naming_downloads, require_file

METADATA: Final = {"format": "pt"}
"""Other readers refuse a safetensors file that does not name its layout."""


@dataclass(frozen=True)
class Format:
    """One published form.

    Attributes:
        name: the name that users give.
        whole: the file's name when there is one file.
        dialect: the dialect that is written.
        dialect_of: returns the dialect of a file.
        reader: returns the tensors of a file by the file's names.
        whole_writer: writes a whole model; takes path, tensors by the file's names, and head.
        shard_writer: writes one of several files.
        dtypes: the dtypes that it can hold.
    """

    name: str
    whole: str
    dialect: str
    dialect_of: Callable[[Path], str]
    reader: Callable[[Path], dict[str, LazyTensor]]
    whole_writer: Callable[[Path, Tensors, str], None]
    shard_writer: Callable[[Path, Tensors, str], None]
    dtypes: tuple[str, ...] = tuple(DTYPES)

    @property
    def index(self) -> str:
        """The name of the index."""
        return f"{self.whole}.index.json"

    def shard(self, number: int, count: int) -> str:
        """Return the name of file `number`, from 1, of `count` files."""
        stem, _, suffix = self.whole.rpartition(".")
        return f"{stem}-{number:05d}-of-{count:05d}.{suffix}"

    def owns(self, file: str) -> bool:
        """Return whether a file of this name belongs to this form, sharded or not."""
        stem, _, suffix = map(re.escape, self.whole.rpartition("."))
        pattern = rf"{stem}(-\d{{5}}-of-\d{{5}}[\w-]*)?\.{suffix}(\.index\.json)?"
        return re.fullmatch(pattern, file) is not None

    def read(self, path: Path) -> dict[str, LazyTensor]:
        """Return the tensors of a file by canonical name, in canonical orientation.

        Raises:
            CheckpointError: if the file is damaged, or holds none.
        """
        require_file(path)
        try:
            with naming_downloads(path):
                return self._read(path)
        except (PermissionError, FileNotFoundError) as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error

    def _read(self, path: Path) -> dict[str, LazyTensor]:
        dialect = DIALECTS[self.dialect_of(path)]
        tensors: dict[str, LazyTensor] = {}
        for key, tensor in self.reader(path).items():
            name = dialect.canonical_name(key)
            if name in tensors:
                raise CheckpointError(f"{path} holds {name} twice, once as {key!r}.")
            tensors[name] = tensor.transposed() if _is_transposed(dialect, name, tensor) else tensor
        if not tensors:
            raise CheckpointError(f"{path} holds no tensors. Download or copy it again.")
        return tensors

    def write(self, path: Path, tensors: Tensors, head: str, *, is_shard: bool = False) -> None:
        """Write tensors with canonical names to a file, whole or not at all."""
        dialect = DIALECTS[self.dialect]
        native = {
            dialect.native_name(name): (
                tensor.transposed() if _is_transposed(dialect, name, tensor) else tensor
            )
            for name, tensor in tensors.items()
        }
        (self.shard_writer if is_shard else self.whole_writer)(path, native, head)

    def index_key(self, name: str, head: str) -> str:
        """Return the index's name of a tensor, given its canonical name."""
        key = DIALECTS[self.dialect].native_name(name)
        return f"{TF_MODELS[head]}/{key}" if self.dialect == "tf" else key

    def check_dtypes(self, tensors: Tensors) -> None:
        """Refuse tensors that the form cannot hold.

        Raises:
            UnsupportedFeature: naming the tensors, and the forms that can.
        """
        wrong = {name: t.dtype for name, t in tensors.items() if str(t.dtype) not in self.dtypes}
        if wrong:
            name, dtype = next(iter(wrong.items()))
            able = [other.name for other in FORMATS.values() if str(dtype) in other.dtypes]
            raise UnsupportedFeature(
                f"The format {self.name!r} cannot hold {dtype}, the dtype of {name} and of "
                f"{len(wrong) - 1} more; it holds {choices(self.dtypes)}. Use one that can "
                f"({choices(able)}), or another dtype."
            )


def _is_transposed(dialect: Dialect, name: str, tensor: LazyTensor) -> bool:
    return len(tensor.shape) == 2 and dialect.transposes(name)


FORMATS: Final = {
    form.name: form
    for form in (
        Format(
            name="safetensors",
            whole="model.safetensors",
            dialect="pt",
            dialect_of=safetensors.dialect,
            reader=safetensors.read,
            whole_writer=lambda path, tensors, _: safetensors.write(path, tensors, METADATA),
            shard_writer=lambda path, tensors, _: safetensors.write(path, tensors, METADATA),
        ),
        Format(
            name="bin",
            whole="pytorch_model.bin",
            dialect="pt",
            dialect_of=lambda path: "pt",
            reader=pytorch_bin.read,
            whole_writer=lambda path, tensors, _: pytorch_bin_writer.write(path, tensors),
            shard_writer=lambda path, tensors, _: pytorch_bin_writer.write(path, tensors),
        ),
        Format(
            name="msgpack",
            whole="flax_model.msgpack",
            dialect="flax",
            dialect_of=lambda path: "flax",
            reader=msgpack.read,
            whole_writer=lambda path, tensors, _: msgpack_writer.write_tree(path, tensors),
            shard_writer=lambda path, tensors, _: msgpack_writer.write_flat(path, tensors),
        ),
        Format(
            name="h5",
            whole="tf_model.h5",
            dialect="tf",
            dialect_of=lambda path: "tf",
            reader=h5.read,
            whole_writer=lambda path, tensors, head: h5.write_layers(
                path, tensors, TF_MODELS[head]
            ),
            shard_writer=lambda path, tensors, _: h5.write_flat(path, tensors),
            dtypes=tuple(name for name in DTYPES if name != "bfloat16"),
        ),
    )
}
"""Name -> form, in order of preference."""

QUANTIZED: Final = replace(FORMATS["safetensors"], whole="gptj_quantized.safetensors")
"""What holds quantized weights, under a name that others do not look for.

Some of them would load the integers as the weights, without their scales and without an error.
"""

FORMS: Final = (*FORMATS.values(), QUANTIZED)
"""All that a folder may hold, in order of preference."""
