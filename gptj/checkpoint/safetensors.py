"""The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes.

The safetensors package checks that a file is well formed, but copies every tensor that it reads.
Here a tensor is a copy-on-write map of the file, and tensors are written one at a time.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from gptj.checkpoint.memory_map import DTYPES, map_array
from gptj.checkpoint.tensor_writing import announced, as_bytes, naming
from gptj.errors import CheckpointError, choices
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.weight_names import DIALECTS
from gptj.system.atomic import replacing

CODES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""The format's name -> NumPy's, for the dtypes that a GPT-J checkpoint may hold."""

NAMES: Final = {DTYPES[dtype]: code for code, dtype in CODES.items()}

ALIGNMENT: Final = 64
"""The header is padded with spaces, so the first tensor starts at a multiple of this many bytes."""


def read(path: Path) -> dict[str, LazyTensor]:
    """Return handles on the tensors of a file, by name.

    Raises:
        CheckpointError: if the file is truncated or not safetensors, naming the bad tensor.
    """
    header, start = _read_header(path)
    room = path.stat().st_size - start
    handles = {
        name: _handle(path, name, entry, start, room)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    try:
        with safe_open(path, framework="numpy"):  # refuses overlaps and gaps
            return handles
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or is not a safetensors file: {error}. Download or save it again."
        ) from error


def dialect(path: Path) -> str:
    """Return whose names and layout a file has: ``"pt"``, ``"tf"`` or ``"flax"``."""
    metadata = _read_header(path)[0].get("__metadata__")
    found = metadata.get("format") if isinstance(metadata, dict) else None
    return found if found in DIALECTS else "pt"


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write tensors to a file, one at a time; an earlier file stays until the new one is complete.

    Raises:
        CheckpointError: for a dtype that the format lacks, and for a tensor that differs from its
            handle.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype not in NAMES:
            raise CheckpointError(
                f"safetensors cannot hold {name} as {tensor.dtype}; it holds {choices(DTYPES)}."
            )
        offsets = [end, end + tensor.nbytes]
        entries[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 8) % ALIGNMENT)
    with replacing(path) as file:
        with naming(path, "the header"):
            file.write(struct.pack("<Q", len(header)) + header)
        for name, array in announced({name: tensors[name] for name in sorted(tensors)}):
            with naming(path, name):
                file.write(as_bytes(array))


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the parsed header, and the offset of the tensors in bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise CheckpointError(
                f"{path} is cut short or is not a safetensors file: it has {size} bytes, "
                f"its header alone claims {length}. Download or save it again."
            )
        text = file.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} has a damaged safetensors header: {error}.") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a safetensors header that is not a JSON object.")
    return header, 8 + length


def _handle(path: Path, name: str, entry: Any, start: int, room: int) -> LazyTensor:
    """Return a handle on one tensor, checked to lie inside the file."""
    try:
        dtype = DTYPES[CODES[entry["dtype"]]]
        shape = tuple(int(size) for size in entry["shape"])
        first, last = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the header's entry of {name} cannot be read ({error!r}); "
            f"accepted dtypes are {choices(CODES)}."
        ) from error
    handle = LazyTensor(shape, dtype, lambda: map_array(path, dtype, start + first, shape))
    if not 0 <= first <= last <= room or last - first != handle.nbytes or min(shape, default=0) < 0:
        raise CheckpointError(
            f"{path} is damaged or cut short: {name} of {handle.nbytes} bytes is said to lie at "
            f"{first} to {last} of {room}. Download or save the file again."
        )
    return handle
