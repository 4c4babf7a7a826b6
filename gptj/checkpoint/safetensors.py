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

from gptj.checkpoint.memory_map import DTYPES, READABLE, map_array
from gptj.checkpoint.stored_numbers import read_shape, read_size
from gptj.checkpoint.tensor_writing import announced, as_bytes, naming
from gptj.errors import QUOTED, CheckpointError, brief, choices
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.weight_names import DIALECTS
from gptj.system.atomic import replacing
from gptj.system.file_kinds import foreign_kind
from gptj.system.json_files import parse_object

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

READ_CODES: Final = {
    **CODES,
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
}
"""The same for all that is read: what no weight may have, a tensor beside the weights may."""

SHOWN: Final = 300
"""Characters of another package's message, which may quote the file."""

MOST_HEADER_BYTES: Final = 100_000_000
"""As the safetensors package has it."""

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
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or is not a safetensors file: {str(error)[:SHOWN]}. "
            "Download or save it again."
        ) from error


def dialect(path: Path) -> str:
    """Return whose names and layout a file has: ``"pt"``, ``"tf"`` or ``"flax"``."""
    metadata = _read_header(path)[0].get("__metadata__")
    found = metadata.get("format") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and found in DIALECTS else "pt"


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
        text = file.read(min(length, MOST_HEADER_BYTES))
    if not text.startswith(b"{") or length > MOST_HEADER_BYTES:
        about = foreign_kind(path)
        if about is not None:
            raise CheckpointError(f"{path} is not a safetensors file: {about}")
    if length > MOST_HEADER_BYTES or 8 + length > size:
        raise CheckpointError(
            f"{path} is cut short or is not a safetensors file: it has {size} bytes, "
            f"its header alone claims {length}. Download or save it again."
        )
    try:
        return parse_object(text), 8 + length
    except TypeError as error:
        raise CheckpointError(
            f"{path} has a safetensors header that is not a JSON object."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} has a damaged safetensors header: {error}.") from error


def _handle(path: Path, name: str, entry: Any, start: int, room: int) -> LazyTensor:
    """Return a handle on one tensor, checked to lie inside the file."""
    try:
        dtype = READABLE[READ_CODES[entry["dtype"]]]
        shape = read_shape(entry["shape"])
        first, last = (read_size(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the header's entry of {name[:QUOTED]} cannot be read ({brief(error)}); "
            f"accepted dtypes are {choices(READ_CODES)}."
        ) from error
    handle = LazyTensor(shape, dtype, lambda: map_array(path, dtype, start + first, shape))
    if not first <= last <= room or last - first != handle.nbytes:
        raise CheckpointError(
            f"{path} is damaged or cut short: {name[:QUOTED]} of {handle.nbytes} bytes is said to "
            f"lie at {first} to {last} of {room}. Download or save the file again."
        )
    return handle
