"""accelerate on our models: maps, empty models, weights that are elsewhere between calls."""

import pytest
import torch
import transformers
from accelerate import (
    Accelerator,
    cpu_offload,
    disk_offload,
    dispatch_model,
    infer_auto_device_map,
    init_empty_weights,
    load_checkpoint_and_dispatch,
)
from accelerate.hooks import remove_hook_from_submodules
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import offload_state_dict
from safetensors.torch import load_file

import gptj
from gptj.errors import UnsupportedFeature
from models import short_demo
from torch_pairs import draw, folder, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
MAP = {
    "transformer.wte": "cpu",
    "transformer.drop": "cpu",
    "transformer.rotary": "cpu",
    "transformer.h.0": "cpu",
    "transformer.h.1": "disk",
    "transformer.ln_f": "cpu",
    "lm_head": "cpu",
}
OFFLOADS = {
    "cpu": lambda model, path: cpu_offload(model, execution_device=torch.device("cpu")),
    "disk": lambda model, path: disk_offload(model, path, execution_device=torch.device("cpu")),
    "map": lambda model, path: dispatch_model(model, MAP, main_device="cpu", offload_dir=path),
}
OPTIONS = {"max_new_tokens": 5, "eos_token_id": None, "pad_token_id": 0}


def test_maps_keep_blocks_whole():
    model = pair()[1]
    size = sum(weight.nbytes for weight in model.parameters())
    keys = set()
    for budget in range(size // 2, size, size // 40):
        keys |= infer_auto_device_map(
            model,
            max_memory={0: budget, "cpu": 10**9},
            no_split_module_classes=model._no_split_modules,
        ).keys()
    inside = {key for key in keys if key.startswith("transformer.h.")}
    assert inside == {"transformer.h.0", "transformer.h.1"}


@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_model_whose_weights_are_elsewhere_computes_and_generates(offload, tmp_path):
    theirs, model = pair()
    OFFLOADS[offload](model, str(tmp_path))
    assert model.device.type == "cpu"
    assert next(reversed(list(model.transformer.h[1].parameters()))).device.type == "meta"
    torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)
    mask = torch.ones_like(IDS)
    for options in ({"do_sample": False}, {"do_sample": False, "repetition_penalty": 1.3}):
        wanted = theirs.generate(IDS, attention_mask=mask, **options, **OPTIONS)
        assert torch.equal(model.generate(IDS, **options, **OPTIONS), wanted)


def whole_state(model):
    """Return the state with the name of a tied head, which accelerate looks for."""
    return {n: p.detach().clone() for n, p in model.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_tied_model_is_kept_elsewhere_with_its_whole_state(place, tmp_path):
    theirs, model = pair(tied=True)
    state, here = whole_state(model), torch.device("cpu")
    if place == "cpu":
        cpu_offload(model, here, state_dict=state)
    else:
        offload_state_dict(str(tmp_path), state)
        disk_offload(model, str(tmp_path), here)
    torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)
    wanted = theirs.generate(IDS, attention_mask=torch.ones_like(IDS), do_sample=False, **OPTIONS)
    assert torch.equal(model.generate(IDS, **OPTIONS), wanted)


@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_model_whose_weights_are_elsewhere_is_scored_and_looked_into(offload, tmp_path):
    theirs, model = pair()
    OFFLOADS[offload](model, str(tmp_path))
    with torch.no_grad():
        output = theirs(IDS, output_hidden_states=True)
    chances = torch.log_softmax(output.logits[:, :-1].double(), dim=-1)
    wanted = chances.gather(2, IDS[:, 1:, None]).sum((1, 2)).tolist()
    assert [each.total for each in model.score(IDS.tolist())] == pytest.approx(wanted, abs=1e-3)
    found = model.trace(IDS, ["transformer.h.0"])["transformer.h.0"]
    torch.testing.assert_close(
        torch.from_numpy(found), output.hidden_states[1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_model_whose_weights_are_elsewhere_writes_text(place, tmp_path):
    whole, model = (gptj.load(short_demo(), backend="torch") for _ in range(2))
    state, here = whole_state(model), torch.device("cpu")
    if place == "cpu":
        cpu_offload(model, here, state_dict=state)
    else:
        offload_state_dict(str(tmp_path), state)
        disk_offload(model, str(tmp_path), here)
    wanted = whole.generate_text(["import os", "class A:"], max_new_tokens=6)
    assert model.generate_text(["import os", "class A:"], max_new_tokens=6) == wanted
    assert "import os" + "".join(model.stream_text("import os", max_new_tokens=6)) == wanted[0]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_that_are_elsewhere_are_saved_without_the_hooks(tied, tmp_path):
    _, model = pair(tied=tied)
    wanted = model(IDS).logits
    cpu_offload(model, torch.device("cpu"), state_dict=whole_state(model))
    with pytest.raises(UnsupportedFeature, match="remove_hook_from_submodules"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    remove_hook_from_submodules(model)
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(gptj.load(tmp_path / "model", backend="torch")(IDS).logits, wanted)


@pytest.mark.parametrize("device_map", [{"": "cpu"}, MAP], ids=["one device", "map"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_empty_model_is_filled_from_a_folder(tied, device_map, tmp_path):
    path = folder(tied=tied)
    with init_empty_weights():
        model = gptj.GPTJForCausalLM(gptj.GPTJConfig.from_pretrained(path))
    load_checkpoint_and_dispatch(
        model, str(path), device_map=device_map, offload_folder=str(tmp_path)
    )
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied
    wanted = pair(tied=tied)[0](IDS).logits
    torch.testing.assert_close(model.eval()(IDS).logits, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_without_weights_anywhere_is_still_refused():
    config = gptj.GPTJConfig.from_pretrained(folder())
    with init_empty_weights():
        model = gptj.GPTJForCausalLM(config)
    with pytest.raises(gptj.errors.UnsupportedFeature, match="on the device 'meta'"):
        model.generate(IDS, **OPTIONS)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_accelerator_trains_and_saves(tied, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)  # a trainer's, in half precision
    GradientState._reset_state()
    losses = []
    for model in pair(tied=tied):
        accelerator = Accelerator(cpu=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        for _ in range(2):
            loss = model(input_ids=IDS, labels=IDS).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    accelerator.save_model(model, tmp_path / "model")
    accelerator.save_state(tmp_path / "state")
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(found["transformer.wte.weight"], model.transformer.wte.weight)
    kept = model.transformer.wte.weight.clone()
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    accelerator.load_state(tmp_path / "state")
    assert torch.equal(model.transformer.wte.weight, kept)
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_state_that_an_accelerator_gathers_is_what_is_saved(tied, tmp_path):
    accelerator, model = Accelerator(cpu=True), pair(tied=tied)[1]
    prepared = accelerator.prepare(model)
    state = {name: t.clone() for name, t in accelerator.get_state_dict(prepared).items()}
    with torch.no_grad():
        model.transformer.wte.weight.zero_()  # as where the values are divided over processes
    options = {"save_function": accelerator.save, "state_dict": state}
    unwrapped = accelerator.unwrap_model(prepared)
    unwrapped.save_pretrained(tmp_path / "other", is_main_process=False, **options)
    assert not (tmp_path / "other").exists()
    unwrapped.save_pretrained(
        tmp_path / "model", is_main_process=accelerator.is_main_process, **options
    )
    theirs = pair(tied=tied)[0](IDS).logits
    for load in (gptj.GPTJForCausalLM, transformers.GPTJForCausalLM):
        found = load.from_pretrained(tmp_path / "model")(IDS).logits
        torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5)
