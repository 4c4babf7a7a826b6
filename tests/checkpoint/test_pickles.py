"""Pickles inside PyTorch's files: tensors are described, and nothing is ever run."""

import io
import pickle
import shutil
import zipfile

import numpy as np
import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError
from paths import GOLDEN
from weight_files import Shell

pytestmark = pytest.mark.neutral


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
        ({"shape": (2, 2)}, "2 sizes, but 1 strides"),
        ({"size": 2}, "its storage has 2"),
        ({"kind": "QInt8Storage"}, r"torch\.QInt8Storage is none of the known storages"),
    ],
    ids=str,
)
def test_a_tensor_outside_its_storage_is_refused(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(with_storage(tmp_path, tensor_pickle(**changes)))
