"""Measuring systems in processes of their own: what goes right, and all that may go wrong."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from gptj.bench import bench as module
from gptj.bench.bench import Sizes, bench
from gptj.bench.contenders import Contender
from gptj.bench.log import Log
from gptj.bench.protocol import seconds_of
from gptj.bench.quiet_gate import Gate
from gptj.bench.report import make_report
from gptj.bench.runner import Runner
from gptj.bench.worker import BackendSystem
from gptj.bench.worker_process import Worker, WorkerFailed, WorkerLost
from gptj.bench.workloads import Workload
from gptj.cli import main
from gptj.errors import ArgumentError
from installed import FRAMEWORKS
from paths import TESTS, TINY

pytestmark = pytest.mark.frameworks

FAKE = (sys.executable, str(TESTS / "bench" / "fake_system.py"))
FIRST, DECODE = Workload("first", 1, 4, 1), Workload("decode", 1, 4, 4)
PREFILL = Workload("prefill", 1, 4)
LOAD = {"dtype": "float32", "train": False}
SMALL = Sizes(batches=(1,), repeat=1, buffer=10**6, width=256)


def contender(model="fine", dtype="float32", name="fake"):
    return Contender(name, dtype, model, FAKE)


def measured(log, *contenders, repetitions=2, work=(FIRST, DECODE, PREFILL), **options):
    gate = Gate(lambda: (1.0, 1.0), pause=0)
    Runner(log, gate, repetitions, quiet=True, **options).run(contenders, work)
    return log


@pytest.fixture
def worker():
    worker = Worker(FAKE)
    yield worker
    worker.close()


def test_a_worker_answers_and_what_it_prints_is_no_answer(worker):
    assert worker.ask("load", model="fine", **LOAD)["seconds"] >= 0
    assert worker.ask("measure", **FIRST.to_dict())["seconds"] > 0.0015
    assert worker.ask("limits", buffer=1, width=1)["limits"]["bytes"] == 1e9


class Slow:
    """A system that takes seconds, by its own clock: so many for a text, and for a token."""

    vocab_size = 10

    def __init__(self, monkeypatch, start, token):
        self.start, self.token, self.now = start, token, 0.0
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr("gptj.bench.protocol.time", clock)

    def decode(self, ids, count):
        self.now += self.start + self.token * count
        return np.zeros((len(ids), count), int)


def test_the_time_of_a_token_is_without_that_of_the_first(monkeypatch):
    assert seconds_of(Slow(monkeypatch, start=100.0, token=3.0), FIRST) == 103.0
    assert seconds_of(Slow(monkeypatch, start=100.0, token=3.0), DECODE) == 3.0


def test_the_time_of_a_token_is_positive_whatever_disturbs_the_first(monkeypatch):
    assert seconds_of(Slow(monkeypatch, start=100.0, token=-1.0), DECODE) == 95.0 / 5


def test_a_worker_tells_its_errors_and_goes_on(worker):
    with pytest.raises(WorkerFailed, match="NotImplementedError: no bfloat16 here"):
        worker.ask("load", model="fine", dtype="bfloat16", train=False)
    with pytest.raises(WorkerFailed, match="unknown request 'sing'"):
        worker.ask("sing")
    worker.ask("load", model="ends", **LOAD)
    with pytest.raises(WorkerFailed, match=r"\(1, 1\) new tokens were asked for, \(1, 0\) were"):
        worker.ask("measure", **FIRST.to_dict())


def test_a_worker_that_ends_says_why(worker):
    worker.ask("load", model="dies", **LOAD)
    with pytest.raises(WorkerLost, match="ended with code 3: Segmentation fault"):
        worker.ask("measure", **PREFILL.to_dict())
    with pytest.raises(WorkerLost):
        worker.ask("memory")


def test_a_worker_that_takes_too_long_is_ended(worker):
    worker.ask("load", model="hangs", **LOAD)
    with pytest.raises(WorkerLost, match="took more than 0 s, and was ended"):
        worker.ask("measure", deadline=0.2, **PREFILL.to_dict())


def test_systems_take_turns():
    log = measured(Log(), contender(name="a"), contender(name="b"), work=(FIRST,))
    assert [record["system"] for record in log.find("time")] == ["a", "b", "a", "b"]
    assert [record["system"] for record in log.find("cold")] == ["a", "b"]


def test_what_fails_is_noted_and_the_rest_is_measured():
    systems = (contender("dies"), contender(dtype="bfloat16"), contender(name="good"))
    log = measured(Log(), *systems)
    failed = {(r["dtype"], (r["workload"] or {}).get("kind")) for r in log.find("failed")}
    assert failed == {("float32", "prefill"), ("bfloat16", None)}
    assert len(log.find("time", system="good")) == 6
    # the one that died in the last piece of work was started again, and warmed, for the others
    assert len(log.find("time", system="fake")) == 4
    assert len(log.find("start", system="fake")) == 2


def test_an_interrupted_run_goes_on(tmp_path):
    path = tmp_path / "records.jsonl"
    measured(Log(path), contender(), repetitions=1)
    log = measured(Log(path), contender(), repetitions=2)
    assert [log.count(contender().key, work.to_dict()) for work in (FIRST, DECODE)] == [2, 2]
    starts = len(log.find("start"))
    measured(log, contender(), repetitions=2)
    assert len(log.find("start")) == starts  # nothing is left to be done


def test_what_is_slow_is_repeated_less_often():
    log = measured(Log(), contender(), repetitions=5, work=(FIRST,), budget=0.001)
    assert len(log.find("time")) == 1


def test_a_backend_is_a_system(framework, promotion):
    system = BackendSystem(framework.name)
    system.load(str(TINY), "float32", train=True)
    works = (FIRST, DECODE, PREFILL, Workload("train", 2, 4))
    assert all(seconds_of(system, work) > 0 for work in works)
    assert system.decode(np.ones((2, 4), int), 5).shape == (2, 5)
    assert np.isfinite(system.train_step(np.ones((2, 4), int)))
    assert system.limits(10**6, 256)["float32"] > 0


@pytest.mark.skipif(not FRAMEWORKS, reason="no framework")
def test_a_model_is_measured_in_processes(tmp_path):
    path, name = tmp_path / "records.jsonl", FRAMEWORKS[0]
    report = bench(TINY, backends=[name], sizes=SMALL, log=Log(path), force=True)
    kinds = [row["workload"]["kind"] for row in report["results"]]
    assert kinds == ["first", "decode", "prefill"]
    assert all(row["median"] > 0 and row["fraction"] > 0 for row in report["results"])
    assert report["limits_of"].keys() == {"numpy", name}
    assert report["failures"] == []
    assert report == make_report(Log(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtypes": ["int3"]}, "no dtype 'int3'; accepted are 'float32'"),
        ({"backends": ["mxnet"]}, "Unknown backend 'mxnet'"),
        ({"sizes": Sizes(repeat=0)}, "repeat 0 and budget 60.0 must be positive numbers"),
        ({"sizes": Sizes(prompt=60, tokens=30)}, "exceed the context of 64 tokens"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(options, message):
    with pytest.raises(ArgumentError, match=message):
        bench(TINY, force=True, **{"backends": ["torch"], **options})


@pytest.fixture
def fake_backend(monkeypatch):
    """All backends are the fake system, so that the command is fast."""
    monkeypatch.setattr(module, "backend_command", lambda name: FAKE)
    monkeypatch.setattr(module, "Reference", lambda: lambda: (1.0, 1.0))
    monkeypatch.setattr(module, "numpy_roofline", lambda **_: module.Roofline(1e9, 1e10))


def test_the_command_prints_a_table_or_json(fake_backend):
    command = ["bench", str(TINY), "-b", "torch", "--repeat", "1", "--batch", "1,2", "--force"]
    result = CliRunner().invoke(main, [*command, "--train", "2x16"])
    assert result.exit_code == 0, result.output
    assert "| 2 x 47 + 16 | float32 | gptj torch" in result.stdout
    assert "train: a training step" in result.stdout
    report = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert [row["workload"]["batch"] for row in report["results"]] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--batch", "0"], 2, "accepted are positive integers with ',' between"),
        (["--train", "8"], 2, "accepted are 2 integers, such as 2x256"),
        (["--picture", "x.gif"], 2, "cannot be written"),
    ],
    ids=str,
)
def test_a_wrong_option_is_a_message(options, code, message):
    result = CliRunner().invoke(main, ["bench", str(TINY), *options])
    assert result.exit_code == code
    assert message in result.output
