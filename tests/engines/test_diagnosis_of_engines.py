"""Mistakes in a graph of ONNX, a folder of CTranslate2 and a checkpoint are named."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from export_cases import redrawn
from gptj.checkpoint.saving import save_checkpoint
from gptj.exporting.ctranslate2 import CTranslate2Runner
from gptj.exporting.export import export
from gptj.exporting.onnx import OnnxRunner
from gptj.generation.options import GenerationConfig
from gptj.parity.report import parity
from gptj.spec.tensors import LazyTensor
from models import load, tiny_config, tiny_weights

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("ctranslate2")

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model whose weights are far from their start."""
    return redrawn(tmp_path_factory.mktemp("redrawn") / "model", "causal_lm")


@pytest.fixture(scope="module")
def folders(source, tmp_path_factory):
    """The model for both engines."""
    place = tmp_path_factory.mktemp("exported")
    for name in ("onnx", "ctranslate2"):
        export(source, place / name, to=name)
    return place


def logits_of(runner):
    """Return a function from ids to what an engine computes."""
    return lambda ids: runner.outputs(ids, np.ones_like(ids))["logits"]


def in_ctranslate2(folder):
    form = SimpleNamespace(config=tiny_config(), dtype="float32", quantize=None)
    return logits_of(CTranslate2Runner(folder, form))


def named(source, function):
    """Return the name of the mistake that explains most, or None."""
    diagnosis = parity(source, against=function).to_dict()["diagnosis"]
    return diagnosis and diagnosis["hypotheses"][0]["name"]


def test_right_engines_are_not_accused(source, folders):
    assert named(source, logits_of(OnnxRunner(folders / "onnx"))) is None
    assert named(source, in_ctranslate2(folders / "ctranslate2")) is None


def other_gelu(node):
    if node.op_type == "Gelu":
        del node.attribute[:]  # by default not with tanh


def other_epsilon(node):
    for attribute in node.attribute:
        if attribute.name == "epsilon":
            attribute.f = 1e-2


GRAPHS = {"activation_wrong": other_gelu, "epsilon_wrong": other_epsilon}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_mistake_in_a_graph_is_named(name, source, folders, tmp_path):
    folder = shutil.copytree(folders / "onnx", tmp_path / "onnx")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        GRAPHS[name](node)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert named(source, logits_of(OnnxRunner(folder))) == name


def test_a_mistake_in_a_folder_of_ctranslate2_is_named(source, folders, tmp_path):
    folder = shutil.copytree(folders / "ctranslate2", tmp_path / "ctranslate2")
    content = json.loads((folder / "config.json").read_text())
    assert content["layer_norm_epsilon"] == 1e-5
    content["layer_norm_epsilon"] = 1e-2
    (folder / "config.json").write_text(json.dumps(content))
    assert named(source, in_ctranslate2(folder)) == "epsilon_wrong"


def without_head_bias(weights):
    return {**weights, "lm_head.bias": np.zeros_like(weights["lm_head.bias"])}


def with_swapped_values(weights):
    other = {"k_proj": "v_proj", "v_proj": "k_proj"}
    parts = {name: name.split(".") for name in weights}
    return {n: weights[".".join(other.get(part, part) for part in parts[n])] for n in weights}


CONVERTED = {
    "head_bias_dropped": without_head_bias,
    "keys_and_values_swapped": with_swapped_values,
}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_mistake_of_a_converter_is_named(name, source, tmp_path):
    config, weights = tiny_config(), CONVERTED[name](tiny_weights())
    tensors = {key: LazyTensor.of(array) for key, array in weights.items()}
    save_checkpoint(tmp_path / "model", config, GenerationConfig.from_model(config), tensors)
    model = load("onnxruntime", tmp_path / "model")
    assert named(source, lambda ids: model(ids, return_dict=True).logits) == name
