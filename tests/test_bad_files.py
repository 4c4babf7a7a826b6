"""Files that are cut short, flipped, forged, or not to be written: an error, and nothing else.

Whatever a reader is given, it ends with a `CheckpointError` that names the file, or with tensors.
"""

import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden_cases import GOLDEN
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.saving import ACCEPTED, save_checkpoint
from gptj.errors import CheckpointError
from gptj.generation.options import GenerationConfig
from gptj.spec.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor

FLIPS = int(os.environ.get("GPTJ_TRIALS", "60"))
CONFIG = GPTJConfig(vocab_size=16, n_positions=8, n_embd=16, n_layer=1, n_head=8, rotary_dim=2)
TENSORS = {
    name: LazyTensor.of(initial_value(p, CONFIG)) for name, p in parameter_table(CONFIG).items()
}
"""Small, so that most bytes are structure."""


def save(folder, form, **options):
    save_checkpoint(folder, CONFIG, GenerationConfig(), TENSORS, format=form, **options)
    return folder


def read_all(path):
    """Open a checkpoint and read every tensor of a sensible size; a bad file may say any."""
    for tensor in open_checkpoint(path).tensors.values():
        if tensor.nbytes < 2**24:
            tensor.read()


def weight_file(folder, form):
    name = "step_0/shard_3/1.npz" if form == "mesh" else FORMATS[form].whole
    return folder / name


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
    places = [*range(0, min(size, 400), 3), *range(max(size - 400, 0), size, 7)]
    for place in places:
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


# ---------------------------------------------------------------------------- pickles


class Shell:
    """A pickle of this runs a command when Python reads it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def with_pickle(folder, content):
    """Return a .bin of the new form around a pickle."""
    folder.mkdir(exist_ok=True)
    shutil.copy(GOLDEN / "formats" / "bin" / "config.json", folder)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return folder


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("where", ["whole", "inside"])
def test_code_in_a_pickle_is_not_run(protocol, where, tmp_path):
    target = tmp_path / "ran"
    shell = Shell(target)
    content = pickle.dumps(shell if where == "whole" else {"wte.weight": shell}, protocol)
    with pytest.raises(CheckpointError, match=r"call (posix|nt)\.system.*Nothing was run"):
        open_checkpoint(with_pickle(tmp_path / "bad", content))
    assert not target.exists()
    pickle.loads(content)  # it would have
    assert target.exists()


def test_code_in_an_old_pickle_is_not_run(tmp_path):
    target = tmp_path / "ran"
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Shell(target), 2))
    with pytest.raises(CheckpointError, match="Nothing was run"):
        open_checkpoint(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001t\x81.",  # NEWOBJ
        b"\x80\x02(cbuiltins\neval\nX\x01\x00\x00\x001o.",  # OBJ
        b"\x80\x02(X\x01\x00\x00\x001ibuiltins\neval\n.",  # INST
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02c__main__\nx\n}b.",  # BUILD on a name
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02N" + b"\x85" * 100_000 + b".",  # tuples in tuples
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo without a value
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo of four thousand million places
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes without end
        b"\x80\x02}(K\x01K\x02u.",  # a table whose keys are numbers
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",  # a table of numbers
        b"\x80\x02K\x01.",
        b".",
        b"",
    ],
)
def test_a_pickle_of_anything_else_is_refused(content, tmp_path):
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        open_checkpoint(with_pickle(tmp_path, content))


def tensor_pickle(offset=0, shape=(4,), strides=(1,), size=4, kind="FloatStorage"):
    """Return what PyTorch writes for {"a": a tensor}, with any numbers."""

    class Writer(pickle._Pickler):
        def persistent_id(self, value):
            if value is STORAGE:
                return ("storage", Named("torch", kind), "0", "cpu", size)
            return None

        def save_global(self, obj, name=None):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())

    class Named:
        def __init__(self, module, name):
            self.module, self.name = module, name

        def __reduce__(self):
            return "global"

        def __call__(self): ...

    class Tensor:
        def __reduce__(self):
            return REBUILD, (STORAGE, offset, shape, strides, False, None)

    STORAGE, REBUILD = object(), Named("torch._utils", "_rebuild_tensor_v2")
    file = io.BytesIO()
    Writer(file, 2).dump({"a": Tensor()})
    return file.getvalue()


def with_storage(folder, content, data=bytes(16)):
    with_pickle(folder, content)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as archive:
        archive.writestr("archive/data/0", data)
    return folder


def test_the_pickle_made_by_hand_is_read(tmp_path):
    data = np.arange(4, dtype=np.float32)
    folder = with_storage(tmp_path, tensor_pickle(shape=(2, 2), strides=(1, 2)), data.tobytes())
    np.testing.assert_array_equal(open_checkpoint(folder).tensors["a"].read(), data.reshape(2, 2).T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 1}, "a of shape \\(4,\\) needs 5 numbers, its storage has 4"),
        ({"offset": -1}, "-1"),
        ({"shape": (5,)}, "needs 5 numbers"),
        ({"shape": (-4,)}, "-4"),
        ({"strides": (2,)}, "needs 7 numbers"),
        ({"strides": (-1,)}, "-1"),
        ({"shape": (10**9,), "strides": (0,)}, "needs 1000000000 numbers"),
        ({"shape": (2, 2)}, "2 sizes, but 1 steps"),
        ({"size": 2}, "its storage has 2"),
        ({"kind": "QInt8Storage"}, r"torch\.QInt8Storage is none of the kinds known"),
    ],
    ids=str,
)
def test_a_tensor_outside_its_storage_is_refused(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(with_storage(tmp_path, tensor_pickle(**changes)))


# ---------------------------------------------------------------------------- other formats


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
    with pytest.raises(CheckpointError, match=r"refers to elsewhere|lies in another file"):
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
        ({"a": array((2,), "float32", bytes(7))}, "7 bytes are no float32 array of shape"),
        ({"a": array((-1,), "float32", bytes(4))}, "-1 stands where a size should"),
        ({"a": array((1,), "object", bytes(8))}, "'object' is none of"),
        ({"a": msgpack.ExtType(5, b"x")}, "extension type 5 is no array"),
        ({"a": 3}, "a is a int, not an array"),
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
        with pytest.raises(CheckpointError, match="no tree of arrays"):
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


# ---------------------------------------------------------------------------- saving


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_bad_files import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
save(Path(sys.argv[1]), sys.argv[2], beside=True)
"""


def run_script(script, *arguments):
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_full_disk_leaves_what_was_there(form, whole, tmp_path):
    shutil.copytree(whole[form], tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    result = run_script(FULL_DISK, tmp_path, form, 300 if form == "mesh" else 6000)
    assert "Could not write" in result.stderr, result.stderr
    assert "What was there before is unchanged" in result.stderr
    assert contents(tmp_path) == before


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import numpy as np
from test_bad_files import TENSORS, save
from gptj.spec.tensors import LazyTensor
def slow():
    print("writing", flush=True)
    time.sleep(60)
TENSORS["lm_head.bias"] = LazyTensor((16,), np.dtype("float32"), slow)
save(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("form", ["safetensors", "h5"])
def test_a_kill_in_the_middle_leaves_what_was_there(form, whole, tmp_path):
    shutil.copytree(whole[form], tmp_path, dirs_exist_ok=True)
    command = [sys.executable, "-c", KILLED, str(tmp_path), form]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    read_all(tmp_path)
    found = {name: content for name, content in contents(tmp_path).items() if len(name.parts) == 1}
    assert found == contents(whole[form])
