"""Compare gptj with its peers, and with what the machine can do at most.

    python benchmarks/peers.py PEERS                                 # once: their environment
    python benchmarks/compare.py RESULTS --peers PEERS               # about 25 minutes
    python benchmarks/compare.py RESULTS --peers PEERS --model 6B    # bfloat16 and int8
    python benchmarks/compare_report.py RESULTS                      # tables and pictures

Every system runs in a separate process, and they take turns. Each measurement is written to
RESULTS/mid.jsonl immediately, and the same command resumes an interrupted run. Models are written
to RESULTS/models, which may be removed afterwards.
"""

import argparse
import json
import sys
from pathlib import Path

from compare_models import SHAPES, SIZES, config_of
from compare_startup import measure_startup
from compare_systems import HERE, choose, contender, python_of

from gptj.bench.bench import Sizes, note_roofline, note_run
from gptj.bench.contenders import QUIET, backend_command
from gptj.bench.log import Log
from gptj.bench.quiet_gate import Gate, Reference, check_quiet
from gptj.bench.roofline import Roofline
from gptj.bench.runner import Runner
from gptj.bench.worker_process import Worker, WorkerFailed
from gptj.bench.workloads import Workload
from gptj.errors import GPTJError
from gptj.system.memory import free_bytes

PHASES = ("inference", "training", "curves", "startup")
"""In the order in which they are measured; each is a separate process for every system."""

SMALL = Sizes(buffer=10**7, width=512)
"""For a trial, limits that are measured at once and mean nothing."""

STARTUP_REPEATS = 3
"""Repetitions of what has many points, or takes seconds to start."""


def main():
    options = parsed()
    if not options.force:
        check_quiet()
    models = options.folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.model}.jsonl"
    if options.retry and path.exists():
        forget_failures(path)
    log = Log(path)
    note_run(log, options.model, config_of(options.model))
    measure_roofline(log, options)
    gate = Gate(Reference(), options.attempts)
    for phase in options.phases:
        if phase == "startup":
            measure_startup(log, STARTUP_REPEATS, python_of(options.peers))
        else:
            repeat = STARTUP_REPEATS if phase == "curves" else options.repeat
            runner = Runner(log, gate, repeat, options.budget, options.deadline)
            run_phase(phase, runner, options)
    print(f"python benchmarks/compare_report.py {options.folder}")


def run_phase(phase, runner, options):
    """Measure the systems of a phase, as many at a time as fit into memory."""
    work = workloads(phase, options.model)
    if not work:
        return
    for dtype in dtypes(phase, options):
        found = []
        for system in choose(options.systems, phase, dtype):
            made = contender(
                system, options.model, dtype, work, options.folder / "models", options.peers
            )
            if isinstance(made, str):
                note_failure(runner.log, system.name, dtype, phase == "training", made)
            else:
                found.append(made)
        print(f"{phase}, {dtype}: {len(found)} systems", file=sys.stderr)
        runner.run_all(found, work, int(free_bytes() * 0.9))


def workloads(phase, model):
    """Return what is measured in a phase."""
    sizes = SIZES[model]
    prompt, new = sizes.prompt, sizes.new
    if phase == "inference":
        decoding = [Workload("decode", batch, prompt, new) for batch in (1, 8)]
        first, prefill = Workload("first", 1, sizes.first, 1), Workload("prefill", 1, sizes.prefill)
        return [first, *decoding, prefill]
    if phase == "training":
        return [] if sizes.train is None else [Workload("train", *sizes.train)]
    along = [Workload("decode", 1, context, new) for context in sizes.contexts]
    return along + [Workload("decode", batch, prompt, new) for batch in sizes.batches]


def dtypes(phase, options):
    """Return the dtypes of a phase; training and curves are measured in the first one alone."""
    return options.dtypes if phase == "inference" else options.dtypes[:1]


def measure_roofline(log, options):
    """Note what the machine can do at most, with NumPy, the frameworks, and oneDNN alone."""
    sizes = SMALL if options.model == "small" else Sizes()
    note_roofline(log, {name: backend_command(name) for name in ("torch", "tf", "flax")}, sizes)
    command = (sys.executable, str(HERE / "workers" / "matmuls.py"))
    worker = None
    try:
        worker = Worker(command, {**QUIET, "PYTHONPATH": str(HERE.parent)})
        found = worker.ask("limits", buffer=sizes.buffer, width=sizes.width)["limits"]
        log.add("limits", source="oneDNN", **Roofline(**found).to_dict())
    except WorkerFailed as error:  # the operator is private, and may be gone
        note_failure(log, "oneDNN", "limits", False, str(error))
    finally:
        if worker is not None:
            worker.close()


def note_failure(log, system, dtype, train, reason):
    """Keep the reason why a system is not compared, once."""
    key = {"system": system, "dtype": dtype, "train": train}
    if not log.find("failed", **key, workload=None):
        log.add("failed", **key, workload=None, reason=reason)


def forget_failures(path):
    """Let what failed be tried again."""
    kept = [record for record in Log(path).records if record["what"] != "failed"]
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    new.replace(path)


def parsed():
    """Return the options of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("folder", type=Path, metavar="RESULTS")
    add("--peers", type=Path, required=True, help="the environment that peers.py made")
    add("--model", choices=SHAPES, default="mid")
    add("--systems", nargs="*", help="words in the names of those to measure")
    add("--phases", nargs="*", choices=PHASES, help="all, or inference alone for the 6B")
    add("--dtypes", nargs="*", choices=("float32", "bfloat16", "int8"))
    add("--repeat", type=int, default=5)
    add("--budget", type=float, default=10, help="seconds for one measurement's repetitions")
    add("--deadline", type=float, default=120, help="seconds after which a system is ended")
    add("--attempts", type=int, default=3, help="how often what was disturbed is measured")
    add("--retry", action="store_true", help="try again what failed")
    add("--force", action="store_true", help="measure on a busy machine, too")
    options = parser.parse_args()
    options.phases = options.phases or (PHASES[:1] if options.model == "6B" else PHASES)
    usual = ["bfloat16", "int8"] if options.model == "6B" else ["float32", "bfloat16", "int8"]
    options.dtypes = options.dtypes or usual
    return options


if __name__ == "__main__":
    try:
        main()
    except GPTJError as error:
        sys.exit(f"compare.py: {error}")
