"""What `gptj bench` computes of its measurements: costs, summaries, the gate, tables, pictures."""

import json

import numpy as np
import pytest

import gptj
from gptj.bench.bar_chart import check_picture, draw
from gptj.bench.contenders import Contender, groups
from gptj.bench.costs import cost_of
from gptj.bench.log import Log
from gptj.bench.quiet_gate import Gate, MachineBusy, Reference, check_quiet
from gptj.bench.report import make_report
from gptj.bench.roofline import Roofline, best, framework_roofline, matmul_rate, numpy_roofline
from gptj.bench.summary import summarise
from gptj.bench.table import duration, render, table
from gptj.bench.workloads import Workload, inference, step
from gptj.errors import ArgumentError, BackendUnavailable, DataError
from gptj.system.machine import describe
from gptj.system.memory import process_memory
from gptj.system.processor import cores
from models import tiny_config

pytestmark = pytest.mark.frameworks

MID = {"n_embd": 1024, "n_layer": 12, "n_head": 16, "rotary_dim": 32}
KEY = {"system": "gptj torch", "dtype": "float32", "train": False}
DECODE = Workload("decode", 1, 16, 8)


def mid():
    return gptj.GPTJConfig(**MID)


@pytest.mark.parametrize(
    ("work", "gigaflops"),
    [(Workload("prefill", 1, 512), 220), (Workload("train", 2, 256), 642)],
    ids=str,
)
def test_the_operations_of_a_workload_follow_from_the_shapes(work, gigaflops):
    assert cost_of(work, mid(), "float32").operations == pytest.approx(gigaflops * 1e9, rel=0.005)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_a_step_reads_all_parameters_but_the_word_table_and_the_cache(dtype, size):
    cost = cost_of(Workload("decode", 1, 1, 1), mid(), dtype)
    cached = 2 * 12 * 1024 * 2  # keys and values of two tokens in every layer
    assert cost.bytes == pytest.approx((202.6e6 + cached) * size, rel=0.002)


def test_a_tied_word_table_is_read_as_the_head():
    tied = gptj.GPTJConfig(**MID, tie_word_embeddings=True)
    tied_cost, cost = (cost_of(DECODE, config, "float32") for config in (tied, mid()))
    assert tied_cost.bytes == cost.bytes


def test_a_first_token_needs_the_logits_of_one_place_only():
    first, prefill = (
        cost_of(Workload(kind, 1, 64), mid(), "float32") for kind in ("first", "prefill")
    )
    assert prefill.operations - first.operations == 2 * 63 * 50400 * 1024


def test_the_roofline_is_whatever_takes_longer():
    limits = Roofline(bytes=1e9, float32=1e12, bfloat16=5e11)
    cost = cost_of(Workload("decode", 1, 16, 8), mid(), "float32")
    assert limits.seconds(cost, "float32") == cost.bytes / 1e9
    cost = cost_of(Workload("prefill", 1, 2048), mid(), "float32")
    assert limits.seconds(cost, "float32") == cost.operations / 1e12


def test_half_precision_may_be_computed_in_float32():
    assert Roofline(float32=4.0, bfloat16=1.0).operations("bfloat16") == 4.0
    assert Roofline(float32=4.0, bfloat16=9.0).operations("float32") == 4.0


def test_the_best_of_every_rate_counts():
    found = best([Roofline(1.0, 5.0, 2.0), Roofline(3.0, 4.0, 1.0)])
    assert found == Roofline(3.0, 5.0, 2.0)


def test_rooflines_are_measured_with_numpy_and_with_tensors(framework):
    found = [
        numpy_roofline(10**6, 256),
        framework_roofline(framework.from_numpy, framework.to_numpy, 10**6, 256),
    ]
    assert all(limits.bytes > 0 and limits.float32 > 0 for limits in found)
    assert found[1].bfloat16 > 0


def test_matmuls_grow_until_they_take_long_enough(monkeypatch):
    widths = []
    monkeypatch.setattr("gptj.bench.roofline.LONG_ENOUGH", 0.0)
    matmul_rate(lambda a, b: widths.append(len(a)), lambda width: np.ones((width, 1)), 8192)
    assert {*widths} == {256}


def test_a_summary_has_median_and_quartiles_without_the_disturbed():
    found = summarise([1.0, 2.0, 3.0, 9.0], [False, False, False, True])
    assert (found.low, found.median, found.high) == (1.5, 2.0, 2.5)
    assert (found.count, found.disturbed, found.spread) == (4, 1, 0.5)


def test_disturbed_measurements_count_where_there_are_no_others():
    assert summarise([1.0, 3.0], [True, True]).median == 2.0


class Clock:
    """A reference whose timings are given."""

    def __init__(self, *later):
        self.later = [*later]

    def __call__(self):
        return (self.later.pop(0), 1.0) if self.later else (1.0, 1.0)


def gate_after(*seconds):
    gate = Gate(Clock(), pause=0)
    gate.reference = Clock(*seconds)
    return gate


def test_the_gate_lets_a_quiet_measurement_through():
    calls = []
    assert gate_after(1.05, 0.95).run(lambda: calls.append(1) or "result") == ("result", False)
    assert len(calls) == 1


def test_the_gate_measures_again_after_a_disturbance():
    calls = []
    found = gate_after(1.0, 1.3, 1.0, 1.0).run(lambda: calls.append(1) or len(calls))
    assert found == (3, False)  # the second began while the machine was disturbed


def test_the_gate_marks_what_stays_disturbed():
    assert gate_after(1.3, 1.3, 1.3, 1.3).run(lambda: "slow") == ("slow", True)


def test_a_faster_machine_is_not_the_usual_one():
    assert not gate_after().is_usual((0.8, 1.0))


def test_the_reference_is_two_timings():
    assert all(seconds > 0 for seconds in Reference(32, 2**12)())


def test_a_busy_machine_is_refused(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (cores() * 0.4, 0.0, 0.0))
    check_quiet()
    monkeypatch.setattr("os.getloadavg", lambda: (12.3, 0.0, 0.0))
    with pytest.raises(MachineBusy, match=r"load average is 12.3, at most .* give --force"):
        check_quiet()


def test_workloads_that_exceed_the_context_are_refused():
    config = tiny_config()
    with pytest.raises(ArgumentError, match=r"exceed the context of 64 tokens: lower --prompt"):
        inference(config, (1,), 40, 32, 8)
    with pytest.raises(ArgumentError, match="batch must be a positive integer; found 0"):
        inference(config, (0,), 4, 4, 8)
    with pytest.raises(ArgumentError, match="Sequences of 65 tokens cannot be trained on"):
        step(config, 2, 65)
    with pytest.raises(ArgumentError, match="no kind of work 'sing'; accepted are 'first'"):
        Workload("sing", 1, 1)


def test_contenders_that_fit_are_loaded_together():
    def of(name, need, dtype="float32", train=False):
        return Contender(name, dtype, "demo", (), train, need)

    a, b, c = of("a", 40), of("b", 70), of("c", 50)
    half, training = of("a", 10, "bfloat16"), of("a", 10, train=True)
    assert groups([a, b, half, c, training], 100) == [[a, c], [b], [half], [training]]


def test_a_process_knows_its_memory_and_machine():
    memory = process_memory()
    if memory is not None:
        assert 0 < memory["anonymous"] <= memory["resident"] <= memory["peak"]
    assert {"processor", "cores", "free_memory"} <= describe().keys()


def filled(path=None):
    """Return a log of two systems."""
    log = Log(path)
    config = tiny_config()
    log.add("run", model="tiny", parameters=1e6, config=config.to_dict(), machine=describe())
    log.add("limits", source="numpy", bytes=1e9, float32=1e10, bfloat16=0.0)
    memory = {"resident": 10**9, "peak": 2 * 10**9, "anonymous": 1}
    for system, factor in (("gptj torch", 1), ("somebody else", 2)):
        key = {**KEY, "system": system}
        more = {name: size + 10**9 for name, size in memory.items()}
        log.add("start", **key, **{"import": 1.0}, load=0.5, base=memory, loaded=more)
        log.add("memory", **key, base=memory, peak=more)
        first = Workload("first", 1, 16, 1).to_dict()
        log.add("cold", **key, workload=first, seconds=0.25)
        for seconds in (0.002, 0.004, 0.003):
            fields = {"workload": DECODE.to_dict(), "seconds": seconds * factor}
            log.add("time", **key, **fields, disturbed=False, elapsed=0.1)
    log.add("failed", **{**KEY, "dtype": "bfloat16"}, workload=None, reason="no bfloat16 here")
    return log


def test_a_report_has_medians_starts_memory_and_failures():
    report = make_report(filled())
    assert [row["median"] for row in report["results"]] == [0.003, 0.006]
    first, second = report["results"]
    assert first["fraction"] == pytest.approx(2 * second["fraction"])
    assert first["tokens_per_second"] == pytest.approx(1 / 0.003)
    system = report["systems"][0]
    assert (system["cold"], system["loaded"], system["peak"]) == (1.75, 10**9, 2 * 10**9)
    assert report["failures"][0]["reason"] == "no bfloat16 here"
    assert json.loads(json.dumps(report)) == report


def test_a_log_is_written_as_it_grows_and_read_again(tmp_path):
    path = tmp_path / "records.jsonl"
    log = filled(path)
    path.write_text(path.read_text() + '{"what": "time", "cut off')
    again = Log(path)
    assert again.records == log.records
    assert again.count(KEY, DECODE.to_dict()) == 3
    assert again.failed({**KEY, "dtype": "bfloat16"}, DECODE.to_dict())
    assert not again.failed(KEY, DECODE.to_dict())


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("hello\n{}\n")
    with pytest.raises(DataError, match="line 1, is not JSON but 'hello'"):
        Log(path)
    with pytest.raises(DataError, match="found 0 records"):
        make_report(Log())


def test_tables_show_the_fastest_first_and_what_was_not_done():
    text = render(make_report(filled()))
    assert text.index("| gptj torch") < text.index("| somebody else")
    assert "3.0 ms" in text
    assert "2.5 ms to 3.5 ms" in text
    assert "- gptj torch, bfloat16: nothing: no bfloat16 here" in text
    assert "1.75 s" in text


def test_a_table_is_aligned():
    assert table(("a", "name"), [["12", "b"]]).splitlines() == [
        "| a  | name |",
        "| -- | ---- |",
        "| 12 | b    |",
    ]


def test_durations_are_in_units_that_people_read():
    assert [duration(x) for x in (1.234, 0.0331, None)] == ["1.23 s", "33.1 ms", ""]


def test_a_picture_has_a_bar_per_system(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "bench.svg"
    draw(path, make_report(filled()))
    assert path.read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_a_picture_that_cannot_be_drawn_is_refused_beforehand(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match=r"'bench.gif' cannot be written; accepted are .*\.svg"):
        check_picture(tmp_path / "bench.gif")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BackendUnavailable, match=r"Pictures need matplotlib.*\[plot\]"):
        check_picture(tmp_path / "bench.svg")
