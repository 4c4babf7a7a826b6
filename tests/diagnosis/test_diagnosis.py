"""A mistake is named, alone and beside another, and what is right is accused of nothing."""

from dataclasses import replace

import numpy as np
import pytest

from gptj.diagnosis.computation import Inputs, right_computation
from gptj.diagnosis.diagnose import diagnose
from gptj.diagnosis.evidence import Evidence, recorded
from gptj.diagnosis.hypothesis import Suspect, suspects
from gptj.diagnosis.levels import DTYPES
from gptj.diagnosis.rounding import computed_in
from gptj.diagnosis.search import known_suspects
from gptj.diagnosis.table import HYPOTHESES
from gptj.errors import ArgumentError
from models import draw_ids, tiny_config, tiny_weights
from planted import DOUBLE, SINGLE, port

pytestmark = pytest.mark.neutral

IDS = draw_ids((2, 40), seed=3)
LEFT = np.array([[1] * 40, [0] * 9 + [1] * 31])


def right(**inputs):
    return right_computation(tiny_config(), tiny_weights(), Inputs(IDS, **inputs))


def logits_of(computation):
    nothing = Evidence(computation.inputs, {"lm_head": np.zeros(0)})
    return recorded(computation, nothing).arrays["lm_head"]


def judged(logits, dtype=None, **inputs):
    return diagnose(right(**inputs), Evidence(Inputs(IDS, **inputs), {"lm_head": logits}), dtype)


def best_of(judgement):
    return judgement.diagnosis.hypotheses[0]


def test_there_are_more_than_a_hundred_known_mistakes_each_with_words():
    assert len(HYPOTHESES) > 100
    for suspect in known_suspects(rounding=True):
        assert suspect.sentence.endswith(".") and "{" not in suspect.sentence
        assert suspect.hypothesis.remedy


@pytest.mark.parametrize("name", SINGLE)
def test_a_mistake_of_a_port_is_named(name):
    wrong = port(tiny_config(), tiny_weights(), **SINGLE[name])(IDS)
    best = best_of(judged(wrong))
    assert best.name == name
    assert best.explained > 0.999


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in [*DOUBLE][2:]]


@pytest.mark.parametrize("name", [*[*DOUBLE][:2], *SLOW])
def test_two_mistakes_of_a_port_are_named(name):
    wrong = port(tiny_config(), tiny_weights(), **DOUBLE[name])(IDS)
    best = best_of(judged(wrong))
    assert best.name == name
    assert best.explained > 0.99


def test_a_port_without_a_mistake_is_not_accused():
    judgement = judged(port(tiny_config(), tiny_weights())(IDS))
    assert judgement.diagnosis is None
    assert judgement.dtype == "float32"


def test_a_number_between_those_tried_is_found():
    wrong = port(tiny_config(), tiny_weights(), base=30000.0)(IDS)
    (suspect,) = best_of(judged(wrong)).made
    assert abs(suspect.value / 30000 - 1) < 0.001
    assert "30" in suspect.sentence


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_no_mistake(dtype):
    single = replace(right(), dtype=np.float32)
    rounded = single if dtype == "float32" else computed_in(single, dtype)
    logits = logits_of(rounded)
    assert judged(logits).diagnosis is None
    assert judged(logits, dtype).diagnosis is None


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_rounding_is_one_for_who_says_float32(dtype):
    logits = logits_of(computed_in(right(), dtype))
    best = best_of(judged(logits, "float32"))
    assert best.name in {"computed_in", "weights_rounded"}
    assert best.made[0].value == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_mistake_is_named_under_the_rounding_of_half_precision(dtype):
    wrong = computed_in(Suspect(HYPOTHESES["rotary_half_split"]).apply(right()), dtype)
    assert best_of(judged(logits_of(wrong))).name == "rotary_half_split"


def test_a_mistake_in_one_layer_is_found_there():
    weights = dict(tiny_weights())
    name = "transformer.h.1.attn.v_proj.weight"
    weights[name] = weights[name].T
    best = best_of(judged(port(tiny_config(), weights)(IDS)))
    assert best.name == "values_transposed (layer 1)"
    assert best.made[0].sentence.startswith("In layer 1 only: ")


def test_padding_that_is_attended_to_is_named():
    wrong = logits_of(replace(right(), inputs=Inputs(IDS)))
    judgement = judged(wrong, mask=LEFT)
    assert best_of(judgement).name == "padding_attended"


def test_what_is_unknown_is_said_to_be_unknown():
    noise = np.random.Generator(np.random.PCG64(8)).standard_normal((2, 40, 96))
    judgement = judged(logits_of(right()) + 5 * noise)
    assert judgement.diagnosis.sentence.startswith("None of the known mistakes explains it")
    assert best_of(judgement).explained < 0.5


def test_what_is_no_number_is_said_first():
    logits = logits_of(right())
    logits[0, 3, 5] = np.inf
    judgement = judged(logits)
    assert judgement.diagnosis.sentence.startswith("1 numbers of lm_head are infinite")
    assert judgement.diagnosis.hypotheses == ()


def test_activations_say_where():
    wrong = Suspect(HYPOTHESES["attention_left_out"], layer=None).apply(right())
    names = ["transformer.h.0.attn", "transformer.h.0", "transformer.h.1", "lm_head"]
    empty = Evidence(Inputs(IDS), dict.fromkeys(names, np.zeros(0)))
    judgement = diagnose(right(), recorded(wrong, empty))
    best = best_of(judgement)
    assert best.name == "attention_left_out"
    assert best.by_module["transformer.h.0"] > 0.999999
    judged_by = {level.dtype: level.by_module for level in judgement.levels}["float32"]
    assert judged_by["transformer.h.0.attn"][0] < 1e-6 < judged_by["transformer.h.0"][0]


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ArgumentError, match="Unknown dtype 'bfloat61'"):
        judged(logits_of(right()), "bfloat61")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, h in HYPOTHESES.items() if not h.rounds])
def test_every_known_mistake_is_named(name):
    same = {  # no logits can tell them apart: with 4 heads, the width's root halves the scores
        ("rows_sorted_from_halves", None): "rotary_half_split",
        ("scale_wrong", 0.5): "scale_of_model_width",
    }
    found = 0
    for suspect in suspects(HYPOTHESES[name]):
        wrong = logits_of(replace(suspect.apply(right()), dtype=np.float32))
        judgement = judged(wrong)
        if judgement.levels[0].error > 1e-4:
            assert best_of(judgement).name == same.get((name, suspect.value), name)
            found += 1
    assert found or judgement.levels[0].error < 1e-4
