"""The safetensors format: files that the safetensors package wrote, and files that it reads."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gptj.checkpoint.safetensors import ALIGNMENT, DTYPES, read, write
from gptj.errors import CheckpointError
from gptj.spec.tensors import LazyTensor

pytestmark = pytest.mark.neutral

GENERATOR = np.random.Generator(np.random.PCG64(0))
ARRAYS = {
    f"{name}.{rank}": GENERATOR.integers(0, 100, (*(3, 5, 2)[:rank], 1)).astype(dtype)[..., 0]
    for name, dtype in DTYPES.items()
    for rank in range(4)
}


def lazy(arrays):
    return {name: LazyTensor.of(array) for name, array in arrays.items()}


@pytest.fixture
def theirs(tmp_path):
    """A file that the safetensors package wrote."""
    save_file(ARRAYS, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


@pytest.fixture
def ours(tmp_path):
    """A file that gptj wrote."""
    write(tmp_path / "ours.safetensors", lazy(ARRAYS), {"format": "pt"})
    return tmp_path / "ours.safetensors"


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tensor_of_the_safetensors_package_is_read(theirs, name):
    handle = read(theirs)[name]
    assert (handle.shape, handle.dtype) == (ARRAYS[name].shape, ARRAYS[name].dtype)
    np.testing.assert_array_equal(handle.read(), ARRAYS[name])


@pytest.mark.parametrize("name", ARRAYS)
def test_the_safetensors_package_reads_what_was_written(ours, name):
    found = load_file(ours)[name]
    assert found.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found, ARRAYS[name])


def test_the_metadata_says_whose_layout_it_is(ours):
    with safe_open(ours, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_an_empty_tensor_survives(tmp_path):
    write(tmp_path / "m.safetensors", lazy({"a": np.zeros((0, 4), np.float32)}), {})
    assert read(tmp_path / "m.safetensors")["a"].read().shape == (0, 4)


def test_a_transposed_array_is_written_by_its_values(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write(tmp_path / "m.safetensors", lazy({"a": array}), {})
    np.testing.assert_array_equal(read(tmp_path / "m.safetensors")["a"].read(), array)


def test_the_first_tensor_is_aligned(ours):
    (length,) = struct.unpack("<Q", ours.read_bytes()[:8])
    assert (8 + length) % ALIGNMENT == 0


def test_a_tensor_is_a_memory_map(ours):
    assert isinstance(read(ours)["float32.2"].read(), np.memmap)


def test_writing_into_a_tensor_leaves_the_file_alone(ours):
    before = ours.read_bytes()
    read(ours)["float32.2"].read()[:] = 7.0
    assert ours.read_bytes() == before


def test_a_part_of_a_tensor_can_be_read(ours):
    handle = read(ours)["float32.2"]
    np.testing.assert_array_equal(handle.read(np.s_[1:, 2]), ARRAYS["float32.2"][1:, 2])


def test_numpy_takes_a_handle_for_an_array(ours):
    handle = read(ours)["bfloat16.2"]
    assert np.asarray(handle, np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(handle), ARRAYS["bfloat16.2"])


def test_an_array_that_is_made_from_a_handle_is_a_copy():
    array = np.zeros(3)
    np.array(LazyTensor.of(array))[:] = 1.0
    assert (array == 0).all()


def test_a_dtype_that_the_format_lacks_is_refused(tmp_path):
    tensors = lazy({"a": np.zeros(2, np.complex64)})
    with pytest.raises(CheckpointError, match="cannot hold a as complex64; it holds 'float64'"):
        write(tmp_path / "m.safetensors", tensors, {})


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros(2)], ids=["size", "dtype"])
def test_a_tensor_that_is_not_what_its_handle_says_is_refused(tmp_path, array):
    tensors = {"a": LazyTensor((2,), np.dtype(np.float32), lambda: array)}
    with pytest.raises(CheckpointError, match="a was announced as float32 of shape"):
        write(tmp_path / "m.safetensors", tensors, {})
    assert list(tmp_path.iterdir()) == []


def damaged(path, header, body=b"\0" * 16):
    """Write a file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def entry(first, last, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "has a damaged safetensors header"),
        (b"\xff\xfe{}", "has a damaged safetensors header"),
        (b"[]", "header that is not a JSON object"),
        ({"a": 3}, "entry of a cannot be read"),
        ({"a": {"dtype": "F32", "shape": [4]}}, "entry of a cannot be read"),
        ({"a": entry(0, 16, dtype="F3")}, "entry of a cannot be read .* 'F64', 'F32'"),
        ({"a": entry(0, 24, (6,))}, "a of 24 bytes is said to lie at 0 to 24 of 16"),
        ({"a": entry(0, 16, (3,))}, "a of 12 bytes is said to lie at 0 to 16 of 16"),
        ({"a": entry(8, 0)}, "a of 8 bytes is said to lie at 8 to 0"),
        ({"a": entry(0, 8, (-1, -2))}, "entry of a cannot be read .*-1 stands where a size"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "is damaged or is not a safetensors file"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "is damaged or is not a safetensors file"),
        ({"a": entry(0, 8)}, "is damaged or is not a safetensors file"),
        ({"a": entry(8, 16)}, "is damaged or is not a safetensors file"),
    ],
    ids=str,
)
def test_a_wrong_header_names_the_file_and_the_tensor(tmp_path, header, message):
    path = damaged(tmp_path / "m.safetensors", header)
    with pytest.raises(CheckpointError, match=f"m.safetensors.*{message}"):
        read(path)


@pytest.mark.parametrize("size", [0, 5, 8, 40])
def test_a_file_without_its_header_is_refused(ours, size):
    ours.write_bytes(ours.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"is (cut short or is )?not a safetensors file"):
        read(ours)


def test_a_truncated_file_names_the_tensor_at_its_end(ours):
    ours.write_bytes(ours.read_bytes()[:-1])
    last = max(ARRAYS)  # they lie in the order of their names
    with pytest.raises(CheckpointError, match=f"cut short: {last} of"):
        read(ours)


def test_bfloat16_keeps_every_bit(tmp_path):
    array = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    write(tmp_path / "m.safetensors", lazy({"a": array}), {})
    found = read(tmp_path / "m.safetensors")["a"].read()
    np.testing.assert_array_equal(found.view(np.uint16), array.view(np.uint16))
