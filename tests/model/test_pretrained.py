"""From files and to files, in every backend: nothing is lost on the way."""

import numpy as np
import pytest

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import UnsupportedFeature
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from models import draw_ids, run, tiny_config, tiny_model
from paths import TINY

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 5))
PREFIX = {"torch": "", "tf": "TF", "flax": "Flax"}


def public_class(backend, head):
    """Return the class that users know; that of a plugged-in backend is its own."""
    if backend.name not in PREFIX:
        return type(tiny_model(backend.name, head))
    return getattr(gptj, PREFIX[backend.name] + HEADS[head].class_name)


def arrays(tensors):
    """Return tensors as arrays by name."""
    return {name: np.array(tensor.read()) for name, tensor in tensors.items()}


def assert_same(found, expected):
    """Compare tensors bit by bit."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_parameters_survive_a_save_bit_by_bit(framework, head, dtype, tmp_path):
    model = tiny_model(framework.name, head, dtype=dtype)
    before = arrays(framework.dump_params(model))
    model.save_pretrained(tmp_path)
    loaded = gptj.load(tmp_path, backend=framework.name, head=head)
    assert_same(arrays(framework.dump_params(loaded)), before)


def test_shards_hold_the_same_as_one_file(framework, tmp_path):
    model = tiny_model(framework.name)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded = gptj.load(tmp_path, backend=framework.name)
    assert_same(arrays(framework.dump_params(loaded)), arrays(framework.dump_params(model)))


def test_a_saved_folder_has_what_its_readers_look_for(framework, tmp_path):
    tiny_model(framework.name).save_pretrained(tmp_path)
    config = GPTJConfig.from_pretrained(tmp_path)
    assert config.architectures == ["GPTJForCausalLM"]
    assert config.dtype == "float32"
    assert set(open_checkpoint(tmp_path).tensors) == set(parameter_table(config))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


def test_tied_embeddings_are_saved_once(framework, tmp_path):
    model = tiny_model(framework.name, tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in open_checkpoint(tmp_path).tensors
    loaded = gptj.load(tmp_path, backend=framework.name)
    first, second = (run(framework, m, input_ids=IDS).logits for m in (model, loaded))
    np.testing.assert_array_equal(first, second)


def test_a_base_model_loads_from_a_checkpoint_with_a_head(backend, tmp_path):
    tiny_model(backend.name).save_pretrained(tmp_path)
    base = gptj.load(tmp_path, backend=backend.name, head="base")
    expected = run(
        backend, tiny_model(backend.name), input_ids=IDS, output_hidden_states=True
    ).hidden_states[-1]
    np.testing.assert_array_equal(run(backend, base, input_ids=IDS).last_hidden_state, expected)


def test_loaded_parameters_can_be_replaced(framework):
    model = gptj.load(TINY, backend=framework.name)
    table = parameter_table(model.config)
    new = {n: LazyTensor.of(initial_value(p, model.config, 3)) for n, p in table.items()}
    framework.load_params(model, new)
    assert_same(arrays(framework.dump_params(model)), arrays(new))


@pytest.mark.parametrize("head", HEADS)
def test_new_models_draw_the_values_of_the_specification(framework, head):
    cls = public_class(framework, head)
    model = cls(GPTJConfig.from_dict(tiny_config().to_dict()), seed=5)
    table = parameter_table(model.config, head)
    expected = {name: initial_value(p, model.config, 5) for name, p in table.items()}
    assert_same(arrays(framework.dump_params(model)), expected)


def test_the_public_classes_load_as_users_know(framework):
    cls = public_class(framework, "causal_lm")
    model = cls.from_pretrained(TINY, output_hidden_states=True)
    assert isinstance(model, cls)
    assert model.config.output_hidden_states
    assert type(gptj.load(TINY, backend=framework.name)) is cls


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_can_be_chosen_by_either_name(framework, dtype):
    for options in ({"dtype": dtype}, {"torch_dtype": dtype}):
        model = gptj.load(TINY, backend=framework.name, **options)
        found = {str(tensor.dtype) for tensor in framework.dump_params(model).values()}
        assert found == {dtype}


def test_loading_accepts_what_old_code_passes(framework):
    gptj.load(TINY, backend=framework.name, from_pt=True, low_cpu_mem_usage=True)


def test_a_saved_model_can_be_saved_over_itself(framework, tmp_path):
    model = tiny_model(framework.name)
    model.save_pretrained(tmp_path)
    loaded = gptj.load(tmp_path, backend=framework.name)  # torch maps the file
    loaded.save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend=framework.name)
    assert_same(arrays(framework.dump_params(again)), arrays(framework.dump_params(model)))


def test_a_derived_class_is_not_replaced_without_a_word(framework):
    derived = type("Derived", (type(tiny_model(framework.name)),), {})
    with pytest.raises(UnsupportedFeature, match=r"Derived.from_pretrained would give a \w*GPTJ"):
        derived.from_pretrained(TINY)
