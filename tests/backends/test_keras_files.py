"""Keras opens what it saved in a process that has imported this package, and no backend."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import gptj
from gptj.backends import get_backend
from gptj.spec.heads import HEADS
from models import draw_ids, tiny_model
from paths import GOLDEN, TINY

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from gptj.backends.tf.optimizer import AdamW  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 5), seed=4).tolist()
READ = f"""
import json, sys
import numpy as np
from pathlib import Path
assert "gptj.backends.tf" not in sys.modules
files = sorted(Path(sys.argv[1]).iterdir())
models = {{file.stem: keras.models.load_model(file) for file in files}}
found = {{}}
for name, model in models.items():
    output = model(np.array({IDS}))
    output = output if name == "functional" else next(iter(output.values()))
    optimizer = type(getattr(model, "optimizer", None)).__module__
    found[name] = [type(model).__name__, optimizer, float(abs(output.numpy()).sum())]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of files, and what they are to be when they are read again."""
    folder = tmp_path_factory.mktemp("saved")
    models = {head: tiny_model("tf", head) for head in HEADS}
    models["int8"] = gptj.load(TINY, backend="tf", quantize="int8")
    models["adapted"] = gptj.load(TINY, backend="tf").add_lora(rank=2)
    ids = keras.Input((None,), dtype="int32")
    models["functional"] = keras.Model(ids, models["causal_lm"](ids).logits)
    models["trained"] = gptj.load(TINY, backend="tf")
    models["trained"].compile(AdamW(1e-3))
    expected = {}
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
        output = model(np.array(IDS))
        output = output if name == "functional" else next(iter(output.values()))
        optimizer = type(getattr(model, "optimizer", None)).__module__
        total = pytest.approx(float(np.abs(output).sum()), rel=1e-5)
        expected[name] = [type(model).__name__, optimizer, total]
    return folder, expected


def run(code, *arguments, **environment):
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("order", ["import gptj, keras", "import keras, gptj"])
def test_a_saved_model_opens_once_the_package_is_imported(order, saved):
    folder, expected = saved
    done = run(order + READ, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_keras_on_another_framework_says_so_where_a_model_is_opened(saved):
    pytest.importorskip("jax")
    folder, _ = saved
    code = "import gptj, keras, sys; keras.models.load_model(sys.argv[1])"
    done = run(code, folder / "base.keras", KERAS_BACKEND="jax")
    assert "BackendUnavailable: The backend 'tf' needs Keras on TensorFlow" in done.stderr


def test_the_names_wait_for_keras_and_bring_no_framework():
    code = (
        "import gptj, importlib.util, sys; from gptj.system.keras_names import WhenImported; "
        "waiting = lambda: sum(isinstance(one, WhenImported) for one in sys.meta_path); "
        "importlib.util.find_spec('keras'); "  # as others do to see whether Keras is there
        "print(waiting(), 'keras' in sys.modules); import keras; "
        "print(waiting(), 'gptj.backends.tf' in sys.modules, "
        "'gptj>TFGPTJModel' in keras.saving.get_custom_objects())"
    )
    done = run(code)
    assert done.stdout.split() == ["1", "False", "0", "False", "True"], done.stderr[-2000:]


def test_a_file_of_an_older_keras_opens(tmp_path):
    """Keras 3.10.0 wrote it, after ``fit``, with the logits of these tokens."""
    model = keras.models.load_model(GOLDEN / "keras" / "written-by-3.10.0.keras")
    ids = np.array([[5, 17, 42, 8, 2], [1, 2, 3, 4, 9]])
    expected = np.load(GOLDEN / "keras" / "logits.npy")
    np.testing.assert_allclose(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
    model.save_weights(tmp_path / "of.weights.h5")
    other = gptj.load(TINY, backend="tf")
    other.load_weights(tmp_path / "of.weights.h5")
    np.testing.assert_allclose(other(ids).logits, expected, rtol=1e-5, atol=1e-5)
