"""Module names are an interface: every named output, in every backend, against the oracle."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.spec.heads import HEADS
from gptj.spec.module_names import module_names
from gptj.spec.reference import forward
from models import draw_ids, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 7), seed=51)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4])
TYPES = draw_ids((2, 7), seed=52)
INPUTS = {"attention_mask": LEFT, "token_type_ids": TYPES}


def observed(head):
    """Return what the oracle's modules compute, by name."""
    found = {}
    weights = tiny_weights(head)
    forward(tiny_config(), weights, head=head, input_ids=IDS, **INPUTS, observe=found.setdefault)
    return found


@pytest.mark.parametrize("head", HEADS)
def test_every_named_module_gives_what_the_oracle_computes(backend, head):
    names = module_names(tiny_config(), head)
    traced = tiny_model(backend.name, head).trace(IDS, names, **INPUTS)
    expected = observed(head)
    assert list(traced) == names
    for name in names:
        assert isinstance(traced[name], np.ndarray)
        pooled = name == "score"
        kept = ... if pooled else LEFT != 0
        assert_close(traced[name][kept], expected[name][kept], "float32", name)


def test_a_trace_takes_embeddings_lists_and_one_name(backend):
    model = tiny_model(backend.name)
    name = "transformer.h.1.mlp.fc_out"
    expected = model.trace(IDS, [name])[name]
    assert np.array_equal(model.trace(IDS.tolist(), name)[name], expected)
    embeds = model.trace(IDS, "transformer.wte")["transformer.wte"]
    assert np.array_equal(model.trace(names=[name], inputs_embeds=embeds)[name], expected)


def test_nothing_to_trace_gives_nothing(backend):
    assert tiny_model(backend.name).trace(IDS, []) == {}


def test_a_trace_without_names_or_of_a_text_says_what_to_give(backend):
    model = tiny_model(backend.name)
    for given in ((IDS,), ("import os",), ("import os", ["lm_head"]), ()):
        with pytest.raises(
            ArgumentError, match=r"takes token ids and names.*module_names\(\) list"
        ):
            model.trace(*given)


def test_patterns_stand_for_all_names_that_match(backend):
    model = tiny_model(backend.name)
    found = model.trace(IDS, ["lm_head", "transformer.h.*.mlp", "transformer.h.0.*p"])
    assert list(found) == ["lm_head", "transformer.h.0.mlp", "transformer.h.1.mlp"]
    assert np.array_equal(
        found["transformer.h.1.mlp"], model.trace(IDS, "transformer.h.1.mlp")["transformer.h.1.mlp"]
    )
    assert list(model.trace(IDS, "*.ln_?")) == [
        "transformer.h.0.ln_1",
        "transformer.h.1.ln_1",
        "transformer.ln_f",
    ]


def test_a_model_lists_its_names(backend):
    names = tiny_model(backend.name, "base").module_names()
    assert names[0] == "wte" and names[-1] == "ln_f" and "h.1.attn.q_proj" in names
    assert names == module_names(tiny_config(), "base")


UNKNOWN = {
    "transformer.x.*": r"no module 'transformer\.x\.\*'.*model\.module_names\(\) lists them",
    "transformer.h.1.mlp.fc_ou": "Did you mean 'transformer.h.1.mlp.fc_out'",
    "h.1.mlp.fc_out": "Did you mean 'transformer.h.1.mlp.fc_out'",
    "transformer.h.2.attn": "no module 'transformer.h.2.attn'",
    "score": "no module 'score'",
    "transformer.rotary": "no module 'transformer.rotary'",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_name_is_refused_with_the_nearest(backend, name):
    with pytest.raises(ArgumentError, match=UNKNOWN[name]):
        tiny_model(backend.name).trace(IDS, ["lm_head", name])


@pytest.mark.parametrize("names", [3, b"lm_head", 0.5])
def test_what_is_no_list_of_names_is_refused(backend, names):
    with pytest.raises(ArgumentError, match=rf"names must be .* a list of them; found {names!r}"):
        tiny_model(backend.name).trace(IDS, names)


def test_a_module_that_does_not_run_is_refused(backend):
    model = tiny_model(backend.name)
    embeds = np.zeros((1, 3, 40), np.float32)
    with pytest.raises(ArgumentError, match=r"transformer\.wte"):
        model.trace(names=["transformer.wte"], inputs_embeds=embeds)
