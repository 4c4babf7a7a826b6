"""The arguments of every head, in the order that users of each framework know."""

import inspect

import numpy as np
import pytest

import gptj
from gptj.errors import InputError
from gptj.spec.heads import HEADS
from models import draw_ids, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

INPUTS = (
    "input_ids past_key_values attention_mask token_type_ids position_ids head_mask inputs_embeds"
).split()
TARGETS = {
    "base": [],
    "causal_lm": ["labels"],
    "sequence_classification": ["labels"],
    "question_answering": ["start_positions", "end_positions"],
}
COUNT = {head: ["num_items_in_batch"] if targets else [] for head, targets in TARGETS.items()}
FLAGS = "use_cache output_attentions output_hidden_states return_dict".split()
FLAX = (
    "input_ids attention_mask position_ids params past_key_values dropout_rng train "
    "output_attentions output_hidden_states return_dict"
).split()
PREFIX = {"torch": "", "tf": "TF", "flax": "Flax"}
IDS = draw_ids((2, 6), seed=21)


def arguments(framework, head):
    """Return the names of a model's arguments, in order, without `self`."""
    model = getattr(gptj, PREFIX[framework.name] + HEADS[head].class_name)
    call = {"torch": "forward", "tf": "call", "flax": "__call__"}[framework.name]
    return list(inspect.signature(getattr(model, call)).parameters)[1:]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_takes_the_familiar_arguments_in_the_familiar_order(framework, head):
    found = arguments(framework, head)
    if framework.name == "flax":
        assert found[: len(FLAX)] == FLAX
        rest = {"token_type_ids", "head_mask", "inputs_embeds", "use_cache", *TARGETS[head]}
        assert set(found[len(FLAX) :]) - {"logits_to_keep"} == {*rest, *COUNT[head]}
        return
    last = {"torch": "cache_position", "tf": "training"}[framework.name]
    expected = [*INPUTS, *TARGETS[head], *FLAGS, last]
    assert found[: len(expected)] == expected
    kept = ["logits_to_keep"] if head == "causal_lm" else []
    packed = ["packed"] if framework.name == "torch" and head in ("base", "causal_lm") else []
    assert found[len(expected) :] == [*kept, *COUNT[head], *packed]


@pytest.fixture(params=HEADS)
def torch_model(request, torch_backend):
    """Every head in PyTorch."""
    return tiny_model("torch", request.param)


def test_a_cache_position_that_counts_on_changes_nothing(torch_model, torch_backend):
    import torch

    ids = torch.from_numpy(IDS)
    expected = torch_model(ids).to_tuple()[0]
    found = torch_model(ids, cache_position=torch.arange(6)).to_tuple()[0]
    assert_close(found.detach().numpy(), expected.detach().numpy(), "float32", "output")


def test_another_cache_position_is_refused(torch_backend):
    import torch

    model, ids = tiny_model("torch"), torch.from_numpy(IDS)
    cache = model(ids[:, :4], use_cache=True).past_key_values
    rest = {"input_ids": ids[:, 4:], "past_key_values": cache}
    model(**rest, cache_position=torch.tensor([4, 5]))
    with pytest.raises(InputError, match=r"from the 4 tokens in the cache: 4 to 5; found \[0, 1\]"):
        model(**rest, cache_position=torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"cache_position must be \(length,\) = \(2,\)"):
        model(**rest, cache_position=torch.tensor([[4, 5]]))
    with pytest.raises(InputError, match="cache_position must hold integers"):
        model(**rest, cache_position=torch.tensor([4.0, 5.0]))


HEADS_WITH_LOSS = {
    "sequence_classification": {"labels": np.array([1, 0])},
    "question_answering": {"start_positions": np.array([1, 9]), "end_positions": np.array([3, 4])},
}


@pytest.mark.parametrize("head", HEADS_WITH_LOSS)
def test_a_new_head_compiles_as_one_graph(torch_backend, head):
    import torch

    model = tiny_model("torch", head)
    inputs = {name: torch.from_numpy(a) for name, a in HEADS_WITH_LOSS[head].items()}
    inputs["input_ids"], inputs["attention_mask"] = torch.from_numpy(IDS), torch.ones(2, 6).long()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    found, expected = compiled(**inputs), model(**inputs)
    assert_close(found.loss.detach().numpy(), expected.loss.detach().numpy(), "float32", "loss")
