"""What PyTorch writes around a model's tensors, in its new format and its old; what it reads."""

import shutil

import numpy as np
import pytest

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError
from gptj.model.loading import load_model
from noting import Noting
from paths import TINY

pytestmark = pytest.mark.frameworks

ARRAYS = {name: tensor.read() for name, tensor in open_checkpoint(TINY).tensors.items()}


def tensors():
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in ARRAYS.items()}


def optimizer():
    import torch

    weights = [torch.nn.Parameter(torch.ones(2, 3)) for _ in range(2)]
    adam = torch.optim.AdamW(weights)
    sum(weight.sum() for weight in weights).backward()
    adam.step()
    return adam.state_dict()


def beside(dtype):
    import torch

    return lambda: tensors() | {"probe": torch.ones(3).to(getattr(torch, dtype))}


CASES = {
    "lightning": lambda: {
        "epoch": 1,
        "state_dict": {f"model.{name}": tensor for name, tensor in tensors().items()},
        "optimizer_states": [optimizer()],
        "hyper_parameters": {"lr": 1e-3},
    },
    "an optimizer": lambda: {"optimizer": optimizer(), "model": tensors()},
    "float64": lambda: {name: tensor.double() for name, tensor in tensors().items()},
    "float8": lambda: beside("float8_e4m3fn")(),
    "uint16": lambda: beside("uint16")(),
    "complex": lambda: beside("complex64")(),
}


def saved(folder, content, is_old):
    import torch

    shutil.copy(TINY / "config.json", folder)
    path = folder / "pytorch_model.bin"
    torch.save(content, path, _use_new_zipfile_serialization=not is_old)
    return folder


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("case", CASES)
def test_the_models_tensors_are_found(case, is_old, tmp_path, torch_backend):
    folder = saved(tmp_path, CASES[case](), is_old)
    found = load_model(Noting(), "causal_lm", folder).params
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].read(), array)


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
def test_a_whole_module_says_how_to_save_it(is_old, tmp_path, torch_backend):
    import torch

    folder = saved(tmp_path, torch.nn.Linear(2, 3), is_old)
    with pytest.raises(CheckpointError, match=r"Nothing was run.*torch\.save\(model\.state_dict"):
        open_checkpoint(folder)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("size", ["5GB", "20KB"], ids=["whole", "shards"])
def test_pytorch_opens_what_is_written(dtype, size, tmp_path, torch_backend):
    import torch

    gptj.convert(TINY, tmp_path / "new", to="bin", dtype=dtype, max_shard_size=size)
    files = sorted((tmp_path / "new").glob("*.bin"))
    assert (len(files) > 1) == (size == "20KB")
    found = {}
    for file in files:
        found |= torch.load(file, weights_only=True)
        assert found.keys() == (found | torch.load(file, mmap=True)).keys()
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert torch.equal(found[name], torch.from_numpy(np.array(array)).to(getattr(torch, dtype)))
