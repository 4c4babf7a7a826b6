"""`gptj parity --against`: functions and files beside the oracle, and the mistake named."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import gptj
from gptj.cli import main
from gptj.diagnosis.computation import Inputs, right_computation
from gptj.diagnosis.evidence import Evidence, recorded
from gptj.diagnosis.hypothesis import Suspect
from gptj.diagnosis.search import LARGE
from gptj.diagnosis.table import HYPOTHESES
from gptj.errors import ArgumentError
from gptj.generation.logits_pipeline import log_softmax
from gptj.parity import against
from gptj.parity.report import parity
from gptj.spec.reference import forward
from models import checkpoint_weights, draw_ids
from paths import TINY
from planted import port

pytestmark = pytest.mark.neutral

IDS = draw_ids((2, 24), seed=6)

ENGINE = """
from models import checkpoint_weights
from paths import TINY
from planted import port

config, tensors = checkpoint_weights(TINY)
weights = {name: tensor.read() for name, tensor in tensors.items()}
right = port(config, weights)
wrong = port(config, weights, halves=True)
number = 7


def short(ids):
    return right(ids)[:, -1]


def broken(ids):
    raise RuntimeError("no device")
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    name = f"engine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(ENGINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def ports():
    config, tensors = checkpoint_weights(TINY)
    return config, {name: tensor.read() for name, tensor in tensors.items()}


def activations(**mistakes):
    """Return what the oracle computes on IDS, by name, and the logits of a port."""
    config, weights = ports()
    found = {}
    forward(config, weights, input_ids=IDS, observe=found.setdefault)
    logits = port(config, weights, **mistakes)(IDS)
    return {"input_ids": IDS, "logits": logits, "h.0.mlp": found["transformer.h.0.mlp"]}


def test_a_right_function_passes_and_its_diagnosis_is_null(engine):
    result = CliRunner().invoke(
        main, ["parity", str(TINY), "--against", f"{engine}:right", "--json"]
    )
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["passed"] is True
    assert content["diagnosis"] is None
    assert content["dtype"] == "float32"
    assert content["next_token"]["top1"] == 1.0
    assert content["text"] == {"equal": 2, "of": 2, "first": None}


def test_a_wrong_function_fails_and_is_diagnosed(engine):
    result = CliRunner().invoke(
        main, ["parity", str(TINY), "--against", f"{engine}:wrong", "--json"]
    )
    content = json.loads(result.stdout)
    assert result.exit_code == 1
    best = content["diagnosis"]["hypotheses"][0]
    assert best["name"] == "rotary_half_split"
    assert best["explained"] > 0.9999
    assert best["sentence"].startswith("Rotary positions pair dimension i with")
    assert "interleaved" in content["diagnosis"]["sentence"]


def test_the_text_names_the_mistake_and_the_errors_of_our_own_runs(engine):
    result = CliRunner().invoke(main, ["parity", str(TINY), "--against", f"{engine}:wrong"])
    assert result.stdout.startswith("FAIL: Rotary positions pair dimension i")
    assert "bfloat16" in result.stdout and "ratio" in result.stdout
    assert "100.00%  rotary_half_split" in result.stdout


def test_the_page_shows_ratios_and_the_ranking(tmp_path):
    config, weights = ports()
    report = gptj.parity(TINY, against=port(config, weights, halves=True))
    report.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<rect") > 5
    assert "rotary_half_split" in page


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_of_activations_is_compared(tmp_path, kind):
    path = tmp_path / f"found.{kind}"
    arrays = {name: np.ascontiguousarray(array) for name, array in activations().items()}
    np.savez(path, **arrays) if kind == "npz" else save_file(arrays, path)
    report = parity(TINY, against=path)
    assert report.passed
    names = [module["name"] for module in report.to_dict()["modules"]]
    assert sorted(names) == ["lm_head", "transformer.h.0.mlp"]


def test_a_file_says_where_it_is_first_off(tmp_path):
    arrays = activations(head_bias=False)
    np.savez(tmp_path / "found.npz", **arrays)
    report = parity(TINY, against=tmp_path / "found.npz")
    assert report.to_dict()["diagnosis"]["hypotheses"][0]["name"] == "head_bias_dropped"
    assert "first off at lm_head" in str(report)


def test_prefill_and_decode_are_compared_apart(tmp_path):
    arrays = activations()
    arrays["logits"] = arrays["logits"].copy()
    arrays["logits"][:, 20:] += 2e-6
    np.savez(tmp_path / "found.npz", prompt_length=20, **arrays)
    content = parity(TINY, against=tmp_path / "found.npz").to_dict()
    assert content["diagnosis"] is None
    assert 2 * content["prefill"]["error"] < content["decode"]["error"]


def test_keys_and_values_of_a_cache_are_compared(tmp_path):
    config, weights = ports()
    right = right_computation(config, weights, Inputs(IDS))
    wrong = Suspect(HYPOTHESES["rotary_queries_only"]).apply(right)
    names = [f"transformer.h.{i}.attn.{part}" for i in range(2) for part in ("key", "value")]
    found = recorded(wrong, Evidence(Inputs(IDS), dict.fromkeys(names, IDS))).arrays
    np.savez(tmp_path / "found.npz", input_ids=IDS, **found)
    report = parity(TINY, against=tmp_path / "found.npz")
    assert report.to_dict()["diagnosis"]["hypotheses"][0]["name"] == "rotary_queries_only"
    assert "first off at layer 0, attn.key" in str(report)


BAD_FILES = {
    "no ids": ({"logits": np.zeros((2, 24, 96))}, "has no 'input_ids'"),
    "no outputs": ({"input_ids": IDS}, "has inputs and no outputs"),
    "unknown name": ({"input_ids": IDS, "h.0.mlpp": IDS}, "'h.0.mlpp' is no module"),
    "shape": ({"input_ids": IDS, "logits": np.zeros((2, 24, 95))}, "expected is"),
    "floats": ({"input_ids": IDS * 1.0, "logits": IDS}, "are integers"),
    "too large": ({"input_ids": IDS + 96, "logits": IDS}, "from 0 to 95"),
    "too long": ({"input_ids": np.zeros((1, 65), int), "logits": IDS}, "has 64 positions"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_file_that_cannot_be_compared_is_refused(bad, tmp_path):
    arrays, message = BAD_FILES[bad]
    np.savez(tmp_path / "found.npz", **arrays)
    with pytest.raises(ArgumentError, match=message):
        parity(TINY, against=tmp_path / "found.npz")


BAD_FUNCTIONS = {
    "nowhere:at_all": "cannot be imported",
    "ENGINE:missing": "cannot be imported",
    "ENGINE:number": "is a int; expected is a function",
    "ENGINE:short": "has the shape .* expected is",
    "ENGINE:broken": "raised RuntimeError .* no device",
    "somewhere": "Nothing can be compared with 'somewhere'",
    "gone.npz": "cannot be read",
}


@pytest.mark.parametrize("name", BAD_FUNCTIONS)
def test_a_function_that_cannot_be_compared_is_refused(name, engine):
    with pytest.raises(ArgumentError, match=BAD_FUNCTIONS[name]):
        parity(TINY, against=name.replace("ENGINE", engine))


@pytest.mark.parametrize("options", [{"backends": ["torch"]}, {"head": "base"}, {"dtypes": "ab"}])
def test_what_has_no_meaning_beside_a_target_is_refused(options):
    with pytest.raises(ArgumentError, match="compares one language model with one other system"):
        parity(TINY, against="a:b", **options)


def test_greedy_text_parts_where_it_does_and_the_oracle_says_by_how_much():
    config, weights = ports()
    wrong = port(config, weights, head_bias=False)
    report = parity(TINY, against=wrong)
    first = report.to_dict()["text"]["first"]
    asked = []

    def noting(ids):
        asked.append(ids)
        return wrong(ids)

    parity(TINY, against=noting)
    place = asked[0].shape[1] - 12 + first["token"]
    row = asked[-1][first["row"], :place]  # written by the port, and up to here by the oracle
    logits = forward(config, weights, input_ids=row[None])["logits"][0, -1]
    assert first["expected"] == logits.argmax()
    assert first["found"] == wrong(row[None])[0, -1].argmax() != first["expected"]
    assert first["margin"] == pytest.approx(logits.max() - logits[first["found"]], rel=1e-5)
    assert f"token {first['token']} of sequence {first['row']} is" in str(report)


def test_a_function_that_takes_one_shape_alone_is_asked_for_no_other():
    config, weights = ports()
    right, shapes = port(config, weights), set()

    def fixed(ids):
        shapes.add(ids.shape)
        return right(ids)

    assert parity(TINY, against=fixed).passed
    assert len(shapes) == 1


def test_log_probabilities_are_compared_as_such_and_probabilities_refused():
    config, weights = ports()
    for mistakes, name in (({}, None), ({"halves": True}, "rotary_half_split")):
        logits_of = port(config, weights, **mistakes)
        report = parity(TINY, against=lambda ids, f=logits_of: log_softmax(f(ids))).to_dict()
        diagnosis = report["diagnosis"]
        assert (diagnosis and diagnosis["hypotheses"][0]["name"]) == name
        assert "log-probabilities" in report["notes"]["logits"]
    with pytest.raises(ArgumentError, match="the softmax"):
        parity(TINY, against=lambda ids: np.exp(log_softmax(logits_of(ids))))


def test_values_of_two_mistakes_stand_in_the_order_of_their_names():
    config, weights = ports()
    both = port(config, weights, activation="relu", base=3000.0)
    best = parity(TINY, against=both).to_dict()["diagnosis"]["hypotheses"][0]
    assert best["name"] == "activation_wrong + rotary_base"
    assert best["value"] == ["relu", pytest.approx(3000.0)]


def test_a_long_search_says_first_what_it_costs_and_asks_for_no_text(monkeypatch, caplog):
    monkeypatch.setattr(against, "effort_for", lambda config: LARGE)
    config, weights = ports()
    report = parity(TINY, against=port(config, weights))
    assert re.search(r"about \S+ TFLOP for the known mistakes.* GB of memory", caplog.text)
    assert report.passed and "text" not in report.to_dict()
    assert "text: not compared at this size" in str(report)
