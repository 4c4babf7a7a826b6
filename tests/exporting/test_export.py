"""What every export promises, shown with a target whose runtime is the oracle."""

import hashlib
import json
import logging

import numpy as np
import pytest

import gptj
from export_cases import redrawn
from gptj.errors import (
    ArgumentError,
    BackendUnavailable,
    CheckpointError,
    ExportError,
    UnsupportedFeature,
)
from gptj.exporting import proof
from gptj.exporting.table import TARGETS
from gptj.exporting.target import Runner, Target
from gptj.exporting.texts import ENDED
from gptj.parity.compare import log_softmax
from gptj.spec.heads import HEADS
from gptj.spec.reference import forward
from models import tiny_config

pytestmark = pytest.mark.neutral


EXACT = 1e-12
"""What float64 leaves of sums in another order."""


class FakeRunner(Runner):
    """The oracle, and what a test adds to its outputs."""

    def __init__(self, source, added=0.0, tokens=None):
        self.source, self.added, self.tokens, self.closed = source, added, tokens, False

    def outputs(self, ids, mask):
        source = self.source
        given = {"input_ids": ids, "attention_mask": mask}
        output = forward(source.config, source.tensors, head=source.head, **given)
        return {name: output[name] + self.added for name in source.fields}

    def greedy(self, ids, count):
        found = super().greedy(ids, count)
        return found if self.tokens is None else self.tokens(found)

    def close(self):
        self.closed = True


class Fake(Target):
    name = "fake"
    summary = "nothing"
    heads = tuple(HEADS)
    dtypes = ("float32", "bfloat16")
    quantizations = ("q9",)

    def __init__(self, make=FakeRunner):
        self.make, self.runner = make, None

    def write(self, source, folder):
        (folder / "weights").write_bytes(b"the weights")

    def open(self, folder, source):
        assert (folder / "weights").read_bytes() == b"the weights"
        self.runner = self.make(source)
        return self.runner

    def usage(self, source):
        return "Run it."


@pytest.fixture
def fake(monkeypatch):
    """Return a function that makes the target `fake`, whose runners are as told."""

    monkeypatch.setattr(proof, "FRAMEWORKS", {})  # no model of our own beside it

    def put(make=FakeRunner):
        target = Fake(make)
        monkeypatch.setitem(TARGETS, "fake", target)
        return target

    return put


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return redrawn(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("head", HEADS)
def test_a_report_says_what_was_measured(fake, tmp_path, head):
    target = fake()
    source = redrawn(tmp_path / "model", head)
    done = gptj.export(source, tmp_path / "out", to="fake")
    written = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert written == done.parity and target.runner.closed
    assert (written["measured"], written["passed"], written["head"]) == (True, True, head)
    assert written["error"]["max"] < EXACT
    assert {case["case"] for case in written["cases"]} == {
        "one sequence of 5",
        "one sequence of 19",
        "three sequences of 19",
        "three sequences padded on the left",
        "three sequences padded on the right",
    }
    assert set(written["not_run"].values()) == {"the files have no cache"}
    assert (written["texts"] is None) == (head != "causal_lm")


def test_a_report_names_files_weights_and_versions(fake, model, tmp_path):
    fake()
    parity = gptj.export(model, tmp_path / "out", to="fake").parity
    digest = hashlib.sha256(b"the weights").hexdigest()
    assert parity["files_sha256"]["weights"] == digest
    assert "README.md" in parity["files_sha256"] and "parity.json" not in parity["files_sha256"]
    again = gptj.export(model, tmp_path / "again", to="fake", dtype="bfloat16").parity
    assert parity["weights_sha256"] != again["weights_sha256"]
    assert parity["versions"]["gptj"] == gptj.__version__
    assert parity["machine"]["processor"]


def test_all_texts_of_the_oracle_are_equal(fake, model, tmp_path):
    fake()
    texts = gptj.export(model, tmp_path / "out", to="fake").parity["texts"]
    assert (texts["equal"], texts["of"], texts["differences"]) == (12, 12, [])


def test_a_runtime_that_is_off_leaves_nothing(fake, model, tmp_path):
    fake(lambda source: FakeRunner(source, added=1e-3))
    with pytest.raises(ExportError, match=r"too far from the float64 reference.*differ by 0\.001"):
        gptj.export(model, tmp_path / "out", to="fake")
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_gives_no_numbers_leaves_nothing(fake, model, tmp_path):
    fake(lambda source: FakeRunner(source, added=np.nan))
    with pytest.raises(ExportError, match="differ by inf"):
        gptj.export(model, tmp_path / "out", to="fake")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_token_is_found_by_its_margin(fake, model, tmp_path):
    def changed(found):
        found[3, 2] = (found[3, 2] + 1) % tiny_config().vocab_size
        return found

    fake(lambda source: FakeRunner(source, tokens=changed))
    with pytest.raises(ExportError, match=r"texts differ: \[\{'text': 3, 'token': 2, "):
        gptj.export(model, tmp_path / "out", to="fake")


def test_what_follows_an_end_token_is_not_compared(fake, tmp_path):
    def cut(found):
        found[:, 1:] = ENDED
        return found

    fake()
    folder = redrawn(tmp_path / "model", n_layer=1)
    fake(lambda source: FakeRunner(source, tokens=cut))
    with pytest.raises(ExportError, match="'token': 1, 'found': -1"):
        gptj.export(folder, tmp_path / "out", to="fake")
    every = list(range(gptj.GPTJConfig.from_pretrained(folder).vocab_size))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "eos_token_id": every}))
    texts = gptj.export(folder, tmp_path / "out", to="fake").parity["texts"]
    assert texts["equal"] == 12


def test_a_runtime_that_fails_leaves_nothing(fake, model, tmp_path):
    def broken(source):
        raise RuntimeError("no kernel")

    fake(broken)
    with pytest.raises(
        ExportError, match=r"does not run what was written.*RuntimeError: no kernel"
    ):
        gptj.export(model, tmp_path / "out", to="fake")
    assert list(tmp_path.iterdir()) == []


class LastOnly(FakeRunner):
    """One sequence at a time, and log-probabilities after the last token."""

    sides = ()
    is_batched = False
    every_position = False

    def outputs(self, ids, mask):
        assert len(ids) == 1
        logits = super().outputs(ids, mask)["logits"]
        return {"log_probs": log_softmax(logits[:, -1:])}

    def greedy(self, ids, count):
        return None


def test_a_runtime_is_given_no_more_than_it_takes(fake, model, tmp_path):
    fake(LastOnly)
    parity = gptj.export(model, tmp_path / "out", to="fake").parity
    assert [case["output"] for case in parity["cases"]] == ["log_probs", "log_probs"]
    assert parity["error"]["max"] < EXACT and parity["texts"] is None


class Cached(FakeRunner):
    """What it computes token by token is off."""

    def cached(self, ids, mask, prefilled):
        found = self.outputs(ids, mask)["logits"]
        found[:, prefilled:] += 1e-2
        return found


def test_a_wrong_cache_is_found(fake, model, tmp_path):
    fake(Cached)
    with pytest.raises(ExportError, match=r"logits of .*, with the cache differ by 0\.01"):
        gptj.export(model, tmp_path / "out", to="fake")


def test_without_its_runtime_an_export_says_that_it_is_not_measured(
    fake, model, tmp_path, caplog, monkeypatch
):
    target = fake()
    monkeypatch.setattr(target, "runtime", {"its-runtime": "no_such_module"}, raising=False)
    with caplog.at_level(logging.WARNING, "gptj"):
        done = gptj.export(model, tmp_path / "out", to="fake")
    why = "its-runtime is not installed; pip install its-runtime before the export"
    assert (done.parity["measured"], done.parity["reason"]) == (False, why)
    assert "passed" not in done.parity and done.parity["weights_sha256"]
    assert why in caplog.text and why in str(done)


def test_without_memory_an_export_says_that_it_is_not_measured(fake, model, tmp_path, monkeypatch):
    target = fake()
    monkeypatch.setattr(target, "memory_bytes", lambda source: 10**15, raising=False)
    parity = gptj.export(model, tmp_path / "out", to="fake").parity
    assert not parity["measured"] and "needs 1e+06 GB" in parity["reason"]


def test_without_a_framework_half_precision_is_judged_by_its_digits(fake, model, tmp_path):
    fake()
    parity = gptj.export(model, tmp_path / "out", to="fake", dtype="bfloat16").parity
    assert parity["dtype"] == "bfloat16" and parity["error"]["max"] < EXACT
    assert parity["own"] is None and "8 significant bits" in parity["tolerance"]


def test_quantized_weights_are_measured_and_not_judged(fake, model, tmp_path):
    fake(lambda source: FakeRunner(source, added=0.5))
    parity = gptj.export(model, tmp_path / "out", to="fake", quantize="q9").parity
    assert parity["passed"] and parity["quantize"] == "q9"
    assert parity["error"]["max"] == pytest.approx(0.5) and parity["error"]["limit"] is None


def test_a_model_is_exported_as_its_files_are(fake, model, tmp_path):
    fake()
    loaded = gptj.load(model, backend="numpy")
    first = gptj.export(model, tmp_path / "a", to="fake").parity
    second = gptj.export(loaded, tmp_path / "b", to="fake").parity
    assert first["weights_sha256"] == second["weights_sha256"]


def test_quantized_files_are_dequantized(fake, model, tmp_path):
    fake()
    gptj.convert(model, tmp_path / "int8", quantize="int8")
    parity = gptj.export(tmp_path / "int8", tmp_path / "out", to="fake").parity
    assert parity["dequantized_from"] == "int8"


REFUSED = {
    "target": ({"to": "onxn"}, ArgumentError, "Unknown target 'onxn'"),
    "head": ({"head": "causal"}, ArgumentError, "Unknown head 'causal'"),
    "a head of its own": (
        {"head": "question_answering"},
        ArgumentError,
        "has no question_answering head, and .* Give head='causal_lm'",
    ),
    "dtype": ({"dtype": "float16"}, UnsupportedFeature, "has no dtype 'float16'; accepted is 'fl"),
    "quantization": ({"quantize": "q8"}, UnsupportedFeature, "does not quantize to 'q8'.*'q9'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_target_lacks_is_refused_before_anything_is_written(fake, model, tmp_path, name):
    options, kind, message = REFUSED[name]
    fake()
    with pytest.raises(kind, match=message):
        gptj.export(model, tmp_path / "out", **{"to": "fake", **options})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_command(fake, model, tmp_path, monkeypatch):
    monkeypatch.setattr(fake(), "writers", {"its-writer": "no_such.module"}, raising=False)
    with pytest.raises(BackendUnavailable, match="Install it with: pip install its-writer"):
        gptj.export(model, tmp_path / "out", to="fake")


def test_a_folder_with_files_is_refused(fake, model, tmp_path):
    fake()
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="is not empty"):
        gptj.export(model, tmp_path, to="fake")
    with pytest.raises(CheckpointError, match="it is a file"):
        gptj.export(model, tmp_path / "note.txt", to="fake")
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_every_target_has_a_line_in_the_list():
    from gptj.exporting.listing import listing

    lines = listing().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_its_own_name_and_float32(name):
    target = TARGETS[name]
    assert target.name == name and target.dtypes[0] == "float32"
    assert set(target.heads) <= set(HEADS)
