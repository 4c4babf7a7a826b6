"""PyTorch models that are saved with a state of the caller's instead of their own parameters."""

import copy

import pytest

import gptj
from gptj.errors import ArgumentError
from gptj.spec.heads import HEADS
from models import short_demo, tiny_model
from paths import TINY

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.frameworks


def other_values(model):
    """Return a state of the same form with other values."""
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.empty_like(value).normal_(generator=generator)
        for name, value in model.state_dict().items()
    }
    assert state
    return state


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_values_of_the_state_are_saved(torch_backend, head, tied, tmp_path):
    model = tiny_model("torch", head, tie_word_embeddings=tied)
    before, state = copy.deepcopy(model.state_dict()), other_values(model)
    model.save_pretrained(tmp_path, state_dict=state)
    saved = gptj.load(tmp_path, backend="torch", head=head).state_dict()
    assert saved.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(saved[name], value), name
        assert torch.equal(model.state_dict()[name], before[name]), name


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {"max_shard_size": "100KB"}])
def test_a_state_is_saved_in_any_form(torch_backend, options, tmp_path):
    model = tiny_model("torch")
    state = other_values(model)
    model.save_pretrained(tmp_path, state_dict=state, **options)
    names = {path.suffix for path in tmp_path.iterdir()}
    assert (".bin" in names) == ("safe_serialization" in options)
    assert (tmp_path / "model.safetensors.index.json").exists() == ("max_shard_size" in options)
    saved = gptj.load(tmp_path, backend="torch").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state.items())


def test_a_state_in_half_precision_is_saved_so(torch_backend, tmp_path):
    model = tiny_model("torch")
    state = {name: value.bfloat16() for name, value in other_values(model).items()}
    model.save_pretrained(tmp_path, state_dict=state)
    saved = gptj.load(tmp_path, backend="torch", dtype="auto")
    assert saved.dtype == torch.bfloat16
    assert torch.equal(saved.lm_head.weight, state["lm_head.weight"])


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_state_is_saved(torch_backend, kind, tmp_path):
    model = gptj.load(short_demo(), backend="torch", quantize=kind)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "state", state_dict=model.state_dict())
    whole, state = (tmp_path / name / "gptj_quantized.safetensors" for name in ("whole", "state"))
    assert whole.read_bytes() == state.read_bytes()


def test_a_model_without_values_is_saved_from_a_state(torch_backend, tmp_path):
    state = other_values(tiny_model("torch"))
    empty = gptj.load(TINY, backend="torch", device="meta")
    empty.save_pretrained(tmp_path, state_dict=state)
    saved = gptj.load(tmp_path, backend="torch").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state.items())


def test_an_adapter_is_merged_before(torch_backend, tmp_path):
    model = copy.deepcopy(tiny_model("torch"))
    model.add_lora(rank=2)
    with pytest.raises(ArgumentError, match=r"Call merge_lora\(\) first"):
        model.save_pretrained(tmp_path, state_dict=model.state_dict())
    model.merge_lora().save_pretrained(tmp_path, state_dict=model.state_dict())
    assert gptj.load(tmp_path, backend="torch").lora is None


NOTHING = torch.zeros(2)
WRONG = {
    "one is missing": (lambda state: state.pop("lm_head.bias"), r"it lacks lm_head\.bias\. Give"),
    "one too many": (
        lambda state: state.update({"transformer.h.7.ln_1.bias": NOTHING}),
        r"it has beside the model 'transformer\.h\.7\.ln_1\.bias'\. Give",
    ),
    "another shape": (
        lambda state: state.update({"lm_head.bias": NOTHING}),
        r"it has in another form lm_head\.bias \(torch\.float32 \(2,\)\)\. Give",
    ),
    "another dtype": (
        lambda state: state.update({"lm_head.bias": state["lm_head.bias"].int()}),
        r"it has in another form lm_head\.bias \(torch\.int32 \(96,\)\)\. Give",
    ),
    "no tensor": (
        lambda state: state.update({"lm_head.bias": [0.0]}),
        r"it has in another form lm_head\.bias \(list\)\. Give",
    ),
    "other names": (
        lambda state: state.update({"module." + name: state.pop(name) for name in [*state]}),
        r"it lacks transformer\.wte\.weight, .* more; it has beside the model 'module\.",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_state_that_is_not_the_models_is_refused_by_name(
    torch_backend, change, message, tmp_path
):
    model = tiny_model("torch")
    state = other_values(model)
    change(state)
    with pytest.raises(ArgumentError, match=f"state_dict is not this model's: {message}"):
        model.save_pretrained(tmp_path / "model", state_dict=state)
    assert not (tmp_path / "model").exists()


def test_a_tied_state_names_the_head_only_if_it_is_the_table(torch_backend, tmp_path):
    model = tiny_model("torch", tie_word_embeddings=True)
    state = other_values(model)
    twice = {**state, "lm_head.weight": state["transformer.wte.weight"].clone()}
    model.save_pretrained(tmp_path / "twice", state_dict=twice)
    assert (tmp_path / "twice" / "model.safetensors").is_file()
    twice["lm_head.weight"][0, 0] += 1
    with pytest.raises(ArgumentError, match=r"beside the model 'lm_head\.weight'"):
        model.save_pretrained(tmp_path / "other", state_dict=twice)


def test_what_is_no_state_is_refused(torch_backend, tmp_path):
    with pytest.raises(ArgumentError, match="must be a mapping of names to tensors; found list"):
        tiny_model("torch").save_pretrained(tmp_path, state_dict=[("lm_head.bias", NOTHING)])
