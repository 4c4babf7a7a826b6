"""Files that are cut short, flipped, forged, or not to be written: an error, and nothing else.

Whatever a reader is given, it ends with a `CheckpointError` that names the file, or with tensors.
"""

import io
import os
import shutil
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.saving import ACCEPTED
from gptj.errors import CheckpointError
from weight_files import TENSORS, Shell, read_all, save

pytestmark = pytest.mark.neutral

FLIPS = int(os.environ.get("GPTJ_TRIALS", "60"))


def weight_file(folder, form):
    others = {"mesh": "step_0/shard_3/1.npz", "ggml": "ggml-model.bin"}
    return folder / (others.get(form) or FORMATS[form].whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One folder per form."""
    root = tmp_path_factory.mktemp("whole")
    return {form: save(root / form, form) for form in ACCEPTED}


@pytest.fixture
def copy(whole, tmp_path):
    """A function that copies the checkpoint of a form and changes its weight file."""

    def change(form, content):
        folder = tmp_path / form
        if not folder.exists():
            shutil.copytree(whole[form], folder)
        weight_file(folder, form).write_bytes(content)
        return folder

    return change


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_file_cut_short_is_named(form, whole, copy):
    content = weight_file(whole[form], form).read_bytes()
    for size in (0, 1, 7, len(content) // 3, len(content) // 2, len(content) - 1):
        with pytest.raises(CheckpointError, match=weight_file(Path(form), form).name):
            read_all(copy(form, content[:size]))


@pytest.mark.parametrize("form", ACCEPTED)
def test_random_flips_do_no_harm(form, whole, copy):
    content = weight_file(whole[form], form).read_bytes()
    generator = np.random.Generator(np.random.PCG64(len(form)))
    for _ in range(FLIPS):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), generator.integers(1, 6)):
            damaged[place] ^= 1 << generator.integers(8)
        try:
            read_all(copy(form, bytes(damaged)))
        except CheckpointError:
            continue


@pytest.mark.parametrize("form", ACCEPTED)
def test_flips_in_the_structure_do_no_harm(form, whole, copy):
    """The first and the last bytes of a file are its structure, and are flipped one by one."""
    content = weight_file(whole[form], form).read_bytes()
    size = len(content)
    step = 40 if form == "mesh" else 3  # it has 128 files
    for place in (*range(0, min(size, 400), step), *range(max(size - 400, 0), size, 2 * step)):
        damaged = bytearray(content)
        damaged[place] ^= 0x40 | place % 8
        try:
            read_all(copy(form, bytes(damaged)))
        except CheckpointError:
            continue


@pytest.mark.parametrize("form", FORMATS)
@settings(
    max_examples=FLIPS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(form, copy, content):
    with pytest.raises(CheckpointError, match=FORMATS[form].whole):
        read_all(copy(form, content))


@pytest.mark.parametrize("form", ["bin", "mesh"])
def test_a_flipped_number_is_found_where_there_are_checksums(form, whole, copy):
    content = bytearray(weight_file(whole[form], form).read_bytes())
    content[len(content) // 2] ^= 1
    with pytest.raises(CheckpointError, match="has the checksum"):
        read_all(copy(form, bytes(content)))


def test_an_npz_with_objects_is_refused(whole, copy):
    file = io.BytesIO()
    np.savez(file, np.array([Shell("/nowhere")], object))
    with pytest.raises(CheckpointError, match=r"1\.npz: arr_0\.npy .*object"):
        read_all(copy("mesh", file.getvalue()))


def test_a_compressed_npz_is_refused(whole, copy):
    file = io.BytesIO()
    np.savez_compressed(file, np.zeros(9))
    with pytest.raises(CheckpointError, match="compressed or encrypted"):
        read_all(copy("mesh", file.getvalue()))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("shard_3", "lacks shards: it has 'shard_0', 'shard_1', 'shard_2', 'shard_4'"),
        ("shard_5/4.npz", r"shard_5 lacks files: .*'3\.npz', '5\.npz'"),
        ("shard_7/15.npz", "holds other arrays than"),
    ],
)
def test_missing_parts_of_the_originals_shards_are_named(missing, message, whole, tmp_path):
    shutil.copytree(whole["mesh"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "step_0" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_several_steps_leave_the_choice_to_the_user(whole, tmp_path):
    for step in (1, 2):
        shutil.copytree(whole["mesh"] / "step_0", tmp_path / f"step_{step}")
    with pytest.raises(CheckpointError, match=r"several checkpoints; name one of .*step_1"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual"])
def test_an_h5_that_refers_elsewhere_is_refused(kind, copy, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        if kind == "external link":
            file["lm_head"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "soft link":
            file["lm_head"] = h5py.SoftLink("/elsewhere")
        elif kind == "external data":
            file.create_dataset("x", (4,), "f4", external=[(str(secret), 0, 16)])
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            file.create_virtual_dataset("x", layout)
    with pytest.raises(CheckpointError, match=r"is a link|is stored in another file"):
        read_all(copy("h5", (tmp_path / "bad.h5").read_bytes()))


def test_an_h5_whose_groups_hold_each_other_ends(copy, tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for name in "abcdefgh":
            file.create_group(name)
        for first in "abcdefgh":
            for second in "abcdefgh":
                file[f"{first}/{second}"] = file[second]
    with pytest.raises(CheckpointError, match="holds no tensors"):
        open_checkpoint(copy("h5", (tmp_path / "bad.h5").read_bytes()))


def test_a_packed_h5_of_another_byte_order_is_read(copy, tmp_path):
    data = np.arange(12, dtype=">f4").reshape(3, 4)
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.create_dataset("lm_head/kernel:0", data=data, compression="gzip", chunks=(2, 2))
    tensor = open_checkpoint(copy("h5", (tmp_path / "odd.h5").read_bytes())).tensors
    assert tensor["lm_head.weight"].dtype == np.float32
    np.testing.assert_array_equal(tensor["lm_head.weight"].read(), data.T)


def array(shape, name, data):
    return msgpack.ExtType(1, msgpack.packb((shape, name, data)))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": array((2,), "float32", bytes(7))}, "7 bytes are not a float32 array of shape"),
        ({"a": array((-1,), "float32", bytes(4))}, "-1 stands where a size should"),
        ({"a": array((1,), "object", bytes(8))}, "'object' is none of"),
        ({"a": msgpack.ExtType(5, b"x")}, "extension type 5 is not an array"),
        ({"a": 3}, "holds no tensors"),
        ({"a": [3]}, "a is a list, not an array"),
        ({"a": array((0, 2**62), "float32", b"")}, "stands where a size should"),
        ({"a": array((2**40, 2**40), "float32", b"")}, "has more numbers than any file"),
        ({"a": array([1] * 99, "float32", bytes(4))}, "stands where a shape should"),
        ({1: array((1,), "float32", bytes(4))}, "the key 1 is not text"),
        ([1, 2], "the whole file is a list"),
        ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 3}, "chunks": {}}}, "damaged"),
    ],
    ids=str,
)
def test_a_msgpack_of_anything_but_arrays_is_refused(tree, message, copy):
    with pytest.raises(CheckpointError, match=message):
        read_all(copy("msgpack", msgpack.packb(tree)))


def test_a_deep_or_wide_msgpack_ends(copy):
    deep = b"\x81\xa1a" * 100_000
    wide = b"\xdd\xff\xff\xff\xff" + bytes(2_000_000)
    for content in (deep, wide):
        with pytest.raises(CheckpointError, match="not a tree of arrays"):
            read_all(copy("msgpack", content))


def test_an_array_in_chunks_is_put_together(copy):
    data = np.arange(10, dtype=np.float32)
    parts = [array((5,), "float32", part.tobytes()) for part in (data[:5], data[5:])]
    chunks = {"0": parts[0], "1": parts[1]}
    whole = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 5}, "chunks": chunks}
    folder = copy("msgpack", msgpack.packb({"lm_head": {"kernel": whole}}))
    found = open_checkpoint(folder).tensors["lm_head.weight"].read()
    np.testing.assert_array_equal(found, data.reshape(2, 5).T)


def test_what_is_above_the_limit_is_written_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("gptj.checkpoint.msgpack_writer.CHUNK_BYTES", 300)
    found = open_checkpoint(save(tmp_path, "msgpack")).tensors
    assert b"__msgpack_chunked_array__" in (tmp_path / "flax_model.msgpack").read_bytes()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name].read(), tensor.read())
