"""PyTorch's `device_map`: a model over several devices computes what it does on one.

There are no GPUs here: ``machine`` makes PyTorch believe in two, and fails where devices mix.
"""

import copy
import io

import numpy as np
import pytest

from agreement import DRIVEN
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.tensors import LazyTensor
from models import DEMO, draw_ids, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

torch = pytest.importorskip("torch")

from gptj.backends.torch import devices  # noqa: E402
from machine import Machine, place_of  # noqa: E402
from paths import TINY  # noqa: E402

pytestmark = pytest.mark.frameworks

HEADS = {"base": "", "causal_lm": "lm_head", "sequence_classification": "score"}


HEADS["question_answering"] = "qa_outputs"


def scattered(head):
    """Return a map over two GPUs and the CPU: the word table and the head on different ones."""
    prefix = "transformer." if HEADS[head] else ""
    own = {HEADS[head]: "cpu"} if HEADS[head] else {}
    return {f"{prefix}wte": 0, f"{prefix}h.0": 0, f"{prefix}h": "cuda:1", f"{prefix}ln_f": 0, **own}


def build(backend, head="causal_lm", device_map=None, **changes):
    """Return a variant of the tiny model, by default scattered over the machine."""
    tensors = {name: LazyTensor.of(w) for name, w in tiny_weights(head, **changes).items()}
    device_map = scattered(head) if device_map is None else device_map
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict())
    return backend.build(config, head, params=tensors, dtype="float32", device_map=device_map)


@pytest.fixture
def machine(torch_backend, monkeypatch):
    """A machine with two GPUs, on which the test runs."""
    with Machine(monkeypatch) as running:
        yield running


@pytest.fixture
def ids():
    return torch.from_numpy(draw_ids((2, 7)))


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_is_where_the_map_says(torch_backend, machine, head):
    model = build(torch_backend, head)
    wanted = dict(scattered(head))
    for name, tensor in model.named_parameters():
        longest = max((key for key in wanted if name.startswith(f"{key}.")), key=len)
        assert place_of(tensor) == devices.find_device(wanted[longest]), name


def test_every_parameter_goes_straight_to_its_device(torch_backend, machine):
    model = build(torch_backend)
    assert machine.made == [place_of(tensor) for tensor in model.parameters()]
    assert "cuda" not in {source.partition(":")[0] for _, source, _ in machine.moves}


def test_the_model_tells_where_its_modules_are(torch_backend, machine):
    assert build(torch_backend).device_map == {
        "transformer.wte": "cuda:0",
        "transformer.h.0": "cuda:0",
        "transformer.h.1": "cuda:1",
        "transformer.ln_f": "cuda:0",
        "lm_head": "cpu",
    }


def test_a_model_on_one_device_has_no_map(torch_backend):
    assert tiny_model("torch").device_map is None


def test_after_a_move_the_model_tells_its_new_places(torch_backend, machine):
    model = build(torch_backend, "base").cpu()
    assert set(model.device_map.values()) == {"cpu"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_outputs_equal_those_of_one_device(torch_backend, machine, ids, head, attention):
    model, mask = build(torch_backend, head), torch.ones_like(ids)
    model.get_base().attn_implementation = attention
    mask[0, :2] = 0
    found = model(ids, attention_mask=mask, output_hidden_states=True)
    wanted = tiny_model("torch", head)(ids, attention_mask=mask, output_hidden_states=True)
    for name in ("last_hidden_state", "logits", "start_logits", "end_logits"):
        if name in wanted:
            assert_close(found[name].detach(), wanted[name].detach(), name=name)
    assert_close(found.hidden_states[1].detach(), wanted.hidden_states[1].detach())


def test_every_kind_of_input_follows(torch_backend, machine, ids):
    inputs = {
        "inputs_embeds": torch.from_numpy(np.ones((2, 7, 40), np.float32)),
        "token_type_ids": ids,
        "position_ids": torch.arange(7)[None],
        "head_mask": torch.full((2, 4), 0.5),
        "logits_to_keep": torch.tensor([1, 3]),
        "output_attentions": True,
    }
    found, wanted = build(torch_backend)(**inputs), tiny_model("torch")(**inputs)
    assert_close(found.logits.detach(), wanted.logits.detach())
    assert_close(found.attentions[1].detach(), wanted.attentions[1].detach())


@pytest.mark.parametrize("home", ["cpu", "cuda:0", "cuda:1"])
def test_outputs_are_where_the_inputs_are(torch_backend, machine, ids, home):
    output = build(torch_backend)(ids.to(home), output_hidden_states=True, output_attentions=True)
    tensors = [output.logits, *output.hidden_states, *output.attentions]
    assert {str(tensor.device) for tensor in tensors} == {home}


def test_a_plain_tuple_is_where_the_inputs_are(torch_backend, machine, ids):
    logits, cache = build(torch_backend)(ids.to("cuda:1"), return_dict=False)
    assert (str(logits.device), str(cache.layers[0][0].device)) == ("cuda:1", "cuda:0")


LABELS = {
    "causal_lm": {"labels": torch.from_numpy(draw_ids((2, 7)))},
    "sequence_classification": {"labels": torch.tensor([1, 0])},
    "question_answering": {
        "start_positions": torch.tensor([1, 2]),
        "end_positions": torch.tensor([3, 6]),
    },
}


@pytest.mark.parametrize("head", LABELS)
def test_losses_and_gradients_equal_those_of_one_device(torch_backend, machine, ids, head):
    inputs = {"input_ids": ids.to("cuda:1")}
    inputs |= {name: labels.to("cuda:1") for name, labels in LABELS[head].items()}
    model = build(torch_backend, head)
    assert str(model(**inputs).loss.device) == "cuda:1"
    found, gradients = torch_backend.gradients(model, **inputs)
    wanted, expected = torch_backend.gradients(
        tiny_model("torch", head), input_ids=ids, **LABELS[head]
    )
    assert_close(found, wanted)
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name], name=name)


def test_every_cache_is_with_its_block(torch_backend, machine, ids):
    model = build(torch_backend)
    grown = model(ids, use_cache=True).past_key_values
    longer = model(ids, past_key_values=grown, use_cache=True).past_key_values
    chosen = longer.gather(torch.tensor([1, 0]).to("cuda:0"))
    for cache in (grown, longer, chosen, longer.expand(2), model.init_cache(2, 9)):
        assert [str(key.device) for key, _ in cache.layers] == ["cuda:0", "cuda:1"]


def test_a_continued_call_equals_that_of_one_device(torch_backend, machine, ids):
    logits = []
    for model in (build(torch_backend), tiny_model("torch")):
        cache = model(ids[:, :4], use_cache=True).past_key_values
        logits.append(model(ids[:, 4:], past_key_values=cache).logits.detach())
    assert_close(*logits)


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 5, "top_k": 9, "top_p": 0.9}])
def test_generated_tokens_equal_those_of_one_device(torch_backend, machine, ids, options):
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    options = {"attention_mask": mask, "max_new_tokens": 6, **options}
    found = build(torch_backend).generate(ids, **options)
    assert str(found.device) == "cuda:0"
    assert found.tolist() == tiny_model("torch").generate(ids, **options).tolist()


def test_the_reference_decoder_generates_the_same_tokens(torch_backend, machine, ids):
    found = build(torch_backend).generate(ids, max_new_tokens=4, **DRIVEN)
    assert found.tolist() == tiny_model("torch").generate(ids, max_new_tokens=4).tolist()


def test_masks_move_once_per_device_and_not_once_per_block(torch_backend, machine, ids):
    model = build(torch_backend, device_map={"transformer.h": 1, "": 0}, n_layer=6)
    machine.moves.clear()
    model(ids.to("cuda:0"), attention_mask=torch.ones_like(ids).to("cuda:0"), use_cache=False)
    between = [shape for shape, *places in machine.moves if places == ["cuda:0", "cuda:1"]]
    assert between == [(2, 7, 40), *[(2, 1, 7, 6)] * 2, (2, 1, 7, 7), (2, 1, 7, 1)]


def test_nothing_moves_where_all_is_on_one_device(torch_backend, machine, ids):
    model = build(torch_backend, device_map={"": "cuda:1"})
    machine.moves.clear()
    with torch.no_grad():
        ids = ids.to("cuda:1")
        machine.moves.clear()
        model(ids)
    assert [move for move in machine.moves if move[0] != (2, 7)] == []


def test_a_tied_head_computes_where_the_word_table_is(torch_backend, machine, ids):
    model = build(torch_backend, device_map={"transformer.wte": 0, "": 1}, tie_word_embeddings=True)
    plain = tiny_model("torch", tie_word_embeddings=True)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert_close(model(ids).logits.detach(), plain(ids).logits.detach())


def test_new_parameters_are_spread_too(torch_backend, machine, ids):
    model = torch_backend.build(tiny_config(), "causal_lm", device_map=scattered("causal_lm"))
    plain = torch_backend.build(tiny_config(), "causal_lm")
    assert len(set(model.device_map.values())) == 3
    assert_close(model(ids).logits.detach(), plain(ids).logits.detach())


def test_replaced_parameters_stay_on_their_devices(torch_backend, machine):
    model = build(torch_backend)
    before = model.device_map
    torch_backend.load_params(model, torch_backend.dump_params(model))
    assert model.device_map == before


def test_a_larger_vocabulary_stays_on_its_devices(torch_backend, machine, ids):
    model = build(torch_backend)
    before = model.device_map
    model.resize_token_embeddings(101)
    assert model.device_map == before
    assert model(ids).logits.shape == (2, 7, 101)


def test_what_is_saved_is_what_one_device_saves(torch_backend, machine, tmp_path):
    build(torch_backend).save_pretrained(tmp_path)
    saved = load_model(torch_backend, "causal_lm", tmp_path, device="cpu")
    for name, weight in tiny_weights().items():
        assert_close(saved.get_parameter(name).detach(), weight, name=name)


def test_outputs_of_modules_can_be_traced(torch_backend, machine, ids):
    names = ["transformer.h.1.mlp.fc_out", "lm_head"]
    found = build(torch_backend).trace(ids.numpy(), names)
    wanted = tiny_model("torch").trace(ids.numpy(), names)
    for name in names:
        assert_close(found[name], wanted[name], name=name)


# ---- without an invented machine: all devices are the CPU


def test_loading_takes_a_plan_by_name(torch_backend):
    options = {"device_map": "auto", "max_memory": {"cpu": "10GiB"}}
    model = load_model(torch_backend, "causal_lm", DEMO, **options)
    assert set(model.device_map.values()) == {"cpu"}


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")], ids=str)
def test_loading_takes_one_device_for_the_whole_model(torch_backend, ids, device):
    found = load_model(torch_backend, "causal_lm", TINY, device_map=device)
    assert set(found.device_map.values()) == {"cpu"}
    assert torch.equal(found(ids).logits, load_model(torch_backend, "causal_lm", TINY)(ids).logits)


def test_loading_without_max_memory_takes_what_is_free(torch_backend, ids):
    found = load_model(torch_backend, "causal_lm", TINY, device_map="auto")
    wanted = load_model(torch_backend, "causal_lm", TINY)
    assert torch.equal(found(ids).logits, wanted(ids).logits)


def test_a_copy_and_a_pickled_model_compute_the_same(torch_backend, ids):
    model = build(torch_backend, device_map={"": "cpu"})
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert other.device_map == model.device_map
        assert torch.equal(other(ids).logits, model(ids).logits)


def test_a_spread_model_compiles_to_one_graph(torch_backend, ids):
    model = build(torch_backend, device_map={"": "cpu"})
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(ids).logits.detach(), model(ids).logits.detach())
