"""The names under which scripts find a head whatever the architecture, and new models by them."""

import json
import shutil

import numpy as np
import pytest

import gptj
from gptj.errors import GPTJError, UnsupportedFeature
from models import tiny_config
from paths import TINY

pytestmark = pytest.mark.frameworks

PREFIXES = {"torch": "", "tf": "TF", "flax": "Flax"}
HEADS = ("Model", "ModelForCausalLM", "ModelForSequenceClassification", "ModelForQuestionAnswering")


def arrays(backend, model):
    """Return a model's parameters as arrays by name."""
    return {name: np.array(tensor.read()) for name, tensor in backend.dump_params(model).items()}


@pytest.mark.parametrize("head", HEADS)
def test_an_automatic_name_fixes_the_head_and_nothing_else(framework, head):
    prefix, own = PREFIXES[framework.name], "Model" if head == "Model" else head[len("Model") :]
    model = getattr(gptj, f"{prefix}Auto{head}").from_pretrained(TINY)
    assert type(model).__name__ == f"{prefix}GPTJ{own}"
    assert model.config.n_layer == tiny_config().n_layer


def test_the_automatic_names_of_what_has_no_framework():
    assert gptj.AutoConfig is gptj.GPTJConfig
    assert gptj.AutoTokenizer is gptj.GPTJTokenizer
    assert gptj.AutoConfig.from_pretrained(TINY).n_embd == tiny_config().n_embd


def test_a_folder_of_another_architecture_is_refused_by_its_name(framework, tmp_path):
    content = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 8}
    (tmp_path / "config.json").write_text(json.dumps(content))
    shutil.copyfile(TINY / "model.safetensors", tmp_path / "model.safetensors")
    cls = getattr(gptj, f"{PREFIXES[framework.name]}AutoModelForCausalLM")
    with pytest.raises(GPTJError, match="gpt2"):
        cls.from_pretrained(tmp_path)


def test_a_device_map_places_the_model_of_an_automatic_name(torch_backend):
    model = gptj.AutoModelForCausalLM.from_pretrained(TINY, device_map={"": "cpu"})
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}


def test_a_new_model_is_that_of_its_configuration(framework):
    cls = getattr(gptj, f"{PREFIXES[framework.name]}AutoModelForSequenceClassification")
    model = cls.from_config(tiny_config(), num_labels=3, seed=5)
    assert model.config.num_labels == 3
    drawn = arrays(framework, model)
    assert {str(array.dtype) for array in drawn.values()} == {"float32"}
    again = arrays(framework, cls.from_config(model.config, seed=5))
    assert all(again[name].tobytes() == array.tobytes() for name, array in drawn.items())


def test_a_new_model_has_the_dtype_that_is_asked_for_or_configured(framework):
    cls = getattr(gptj, f"{PREFIXES[framework.name]}AutoModelForCausalLM")
    config = tiny_config(dtype="bfloat16")
    for model in (cls.from_config(config), cls.from_config(tiny_config(), torch_dtype="bfloat16")):
        assert "bfloat16" in str(model.dtype)


def test_a_new_model_in_pytorch_is_ready_to_be_trained(torch_backend):
    assert gptj.AutoModelForCausalLM.from_config(tiny_config()).training


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"n_layer": 1}, {}, "from_config takes a GPTJConfig; found a dict"),
        (None, {"attn_implementaton": "eager"}, "no argument 'attn_implementaton'"),
        (None, {"dtype": "float8"}, "does not have the dtype 'float8'"),
    ],
    ids=str,
)
def test_a_new_model_takes_nothing_that_it_does_not_know(torch_backend, given, options, message):
    with pytest.raises(GPTJError, match=message):
        gptj.AutoModelForCausalLM.from_config(given or tiny_config(), **options)


def test_the_device_of_new_scripts_is_one_that_there_is(torch_backend):
    assert gptj.infer_device() in {"cuda", "mps", "cpu"}


def test_a_script_saves_from_its_main_process_in_the_form_that_it_names(torch_backend, tmp_path):
    model = gptj.AutoModelForCausalLM.from_config(tiny_config())
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()
    model.save_pretrained(tmp_path / "main", save_function=print, safe_serialization=False)
    assert (tmp_path / "main" / "pytorch_model.bin").is_file()


def test_a_dataset_that_scripts_ask_a_model_for_is_refused_with_what_makes_it(tf_backend):
    model = gptj.TFAutoModelForCausalLM.from_config(tiny_config())
    with pytest.raises(UnsupportedFeature, match=r"tf.data.Dataset.from_tensor_slices"):
        model.prepare_tf_dataset([], batch_size=8)
