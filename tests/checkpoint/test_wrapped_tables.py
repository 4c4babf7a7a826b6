"""PyTorch files in which the table of tensors lies within another, as trainings save them."""

import io
import pickle
import shutil
import time
import zipfile

import numpy as np
import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError
from gptj.model.loading import load_model
from noting import Noting
from paths import TINY

pytestmark = pytest.mark.neutral

ARRAYS = {name: tensor.read() for name, tensor in open_checkpoint(TINY).tensors.items()}


class Named:
    """A name that the pickle has and nobody imports."""

    def __init__(self, name):
        self.name = name

    def __call__(self): ...


class Tensor:
    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        rows = self.array.shape
        strides = [int(np.prod(rows[axis + 1 :])) for axis in range(len(rows))]
        return REBUILD, (Storage(self.array), 0, tuple(rows), tuple(strides), False, None)


class Storage:
    def __init__(self, array):
        self.array = array


REBUILD = Named("torch._utils _rebuild_tensor_v2")


def write_bin(path, table):
    """Write a table as torch.save does, with arrays for tensors."""
    storages = []

    class Writer(pickle._Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages.append(value.array)
            kind = Named("torch FloatStorage")
            return ("storage", kind, str(len(storages) - 1), "cpu", value.array.size)

        def reducer_override(self, value):
            return value.name if isinstance(value, Named) else NotImplemented

        def save_global(self, value, name=None):
            module, _, own = value.name.partition(" ")
            self.write(f"c{module}\n{own}\n".encode())

    file = io.BytesIO()
    Writer(file, 2).dump(table)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", file.getvalue())
        for key, array in enumerate(storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def written(folder, table):
    shutil.copy(TINY / "config.json", folder)
    write_bin(folder / "pytorch_model.bin", table)
    return folder


def tensors(prefix="", arrays=ARRAYS):
    return {f"{prefix}{name}": Tensor(array) for name, array in arrays.items()}


def load(folder):
    return load_model(Noting(), "causal_lm", folder)


REST = {"epoch": 3, "global_step": 7, "lr": 1e-4, "config": {"n": [1, None, True]}, 3: "x"}
STATE = {"state": {0: {"exp_avg": Tensor(np.ones(3, "f4")), "step": 3}}, "param_groups": [{}]}


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({"state_dict": tensors()}, "state_dict."),
        ({"model": tensors(), **REST}, "model."),
        ({"module": tensors(), "optimizer": STATE}, "module."),
        (
            {"state_dict": tensors("model."), **REST, "optimizer_states": [STATE]},
            "state_dict.model.",
        ),
        ({"a": {"b": tensors("_orig_mod.")}}, "a.b._orig_mod."),
        (tensors() | REST, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_one_table_that_holds_the_model_is_opened_and_its_key_is_told(
    table, where, tmp_path, caplog
):
    found = load(written(tmp_path, table)).params
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].read(), array)
    assert where is None or f"the tensors are found under {where!r}" in caplog.text
    assert ("leaves out optimizer.state.0.exp_avg" in caplog.text) == ("optimizer" in table)


def test_two_tables_with_a_model_each_are_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"several models, under 'ema\.', 'model\.'"):
        load(written(tmp_path, {"ema": tensors(), "model": tensors()}))


@pytest.mark.parametrize("table", [{"a": 1, "b": {"c": "d"}}, REST], ids=["nested", "flat"])
def test_a_table_without_tensors_says_what_it_holds(table, tmp_path):
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: it holds no tensors, but"):
        load(written(tmp_path, table))


@pytest.mark.parametrize("where", ["a value", "a key", "a size", "a storage", "a name"])
def test_a_small_file_of_values_within_values_takes_no_time(where, tmp_path):
    value = "x"
    for _ in range(200):
        value = (value, value)
    table = {
        "a value": {"a": value},
        "a key": {"a": value, "b": [value]},
        "a size": value,
        "a storage": [value],
        "a name": {"n": {"n": value}},
    }[where]
    start = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        load(written(tmp_path, table))
    assert time.perf_counter() - start < 1
    assert len(str(caught.value)) < 1000


def test_tables_within_tables_are_not_followed_for_ever(tmp_path):
    table = {}
    for _ in range(100):
        table = {str(index): table for index in range(30)}
    start = time.perf_counter()
    with pytest.raises(CheckpointError):
        load(written(tmp_path, table))
    assert time.perf_counter() - start < 2
