"""How fast a user's model is in the backends that are installed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptj.backends import installed_frameworks, resolve_name
from gptj.bench.contenders import QUIET, Contender, backend_command
from gptj.bench.log import Log
from gptj.bench.quiet_gate import Gate, Reference, check_quiet
from gptj.bench.report import Report, make_report
from gptj.bench.roofline import BUFFER, WIDTHS, Roofline, numpy_roofline
from gptj.bench.runner import Runner
from gptj.bench.worker_process import Worker, WorkerFailed
from gptj.bench.workloads import Workload, inference, step
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.model.config import GPTJConfig
from gptj.spec.params import count_parameters
from gptj.spec.quantization import QUANTIZERS
from gptj.system.machine import describe
from gptj.system.memory import BYTES, free_bytes
from gptj.tools.plan import plan

PROMPT = 128
NEW = 32
DTYPES = (*BYTES, *QUANTIZERS)
PREFILL = 512


@dataclass(frozen=True)
class Sizes:
    """How much is measured; what is None follows from the model's context.

    Attributes:
        batches: sequences of a batch that is continued; one workload each.
        prompt, tokens: before what is written, and written.
        prefill: tokens of the prefill.
        train: sequences and tokens of a training step, or None for no training.
        repeat: repetitions.
        budget: seconds for the repetitions of one workload.
        buffer, width: bytes and width of a matrix by which the machine's roofline is measured.
    """

    batches: Sequence[int] = (1, 8)
    prompt: int | None = None
    tokens: int | None = None
    prefill: int | None = None
    train: tuple[int, int] | None = None
    repeat: int = 5
    budget: float = 60.0
    buffer: int = BUFFER
    width: int = WIDTHS[-1]


DEFAULT_SIZES = Sizes()
"""What is measured if nobody says otherwise."""


def bench(
    model: str | Path = "demo",
    *,
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float32",),
    sizes: Sizes = DEFAULT_SIZES,
    log: Log | None = None,
    force: bool = False,
    quiet: bool = True,
) -> Report:
    """Measure a model in several backends, each in a separate process, in turns.

    Args:
        model: a name as in ``gptj.load``.
        backends: names or aliases; every built-in one that is installed if None.
        dtypes: of parameters and computation; ``"int8"`` and ``"int4"`` for weights of so few
            bits, with what the backend is fastest in for the rest.
        sizes: how much is measured.
        log: where the records go; what it holds already is not measured again.
        force: measure on a busy machine, too.
        quiet: show no progress on a terminal.

    Returns:
        What ``gptj.bench.report.make_report`` describes.

    Raises:
        ArgumentError: for unknown names, and sizes that the model cannot have.
        BackendUnavailable: if a backend is not installed.
        MachineBusy: if other programs are running.
    """
    names = _installed_backends(backends)
    _check(dtypes, sizes)
    config = located_config(model)
    work = workloads(config, sizes)
    training = [step(config, *sizes.train)] if sizes.train else []
    if not force:
        check_quiet()
    log = log or Log()
    note_run(log, str(model), config)
    note_roofline(log, {name: backend_command(name) for name in names}, sizes)
    runner = Runner(log, Gate(Reference()), sizes.repeat, sizes.budget, quiet=quiet)
    for train, todo in ((False, work), (True, training)):
        entries = [entry(model, name, dtype, todo, train) for dtype in dtypes for name in names]
        if todo:
            runner.run_all(entries, todo, free_bytes())
    return make_report(log)


def workloads(config: GPTJConfig, sizes: Sizes) -> list[Workload]:
    """Return what is measured of a model: what was asked for, else what its context allows."""
    most = config.n_positions
    new = sizes.tokens if sizes.tokens is not None else max(1, min(NEW, most // 4))
    prompt = sizes.prompt if sizes.prompt is not None else max(1, min(PROMPT, most - new - 1))
    prefill = sizes.prefill if sizes.prefill is not None else min(PREFILL, most)
    return inference(config, sizes.batches, prompt, new, prefill)


def entry(
    model: str | Path, backend: str, dtype: str, work: Sequence[Workload], train: bool
) -> Contender:
    """Return a backend of gptj as a contender that will do some work."""
    system = f"gptj {backend}"
    need = memory_need(model, backend, dtype, work, train)
    return Contender(system, dtype, str(model), backend_command(backend), train, need)


def memory_need(
    model: str | Path, backend: str, dtype: str, work: Sequence[Workload], train: bool
) -> int:
    """Return the estimated bytes that a backend needs for the largest workload."""

    quantized = {"dtype": "float32", "quantize": dtype}
    stored = quantized if dtype in QUANTIZERS else {"dtype": dtype}

    def need(one: Workload) -> int:
        sizes = {"batch": one.batch, "length": one.prompt + one.new}
        return plan(model, backend=backend, train=train, **stored, **sizes).total  # type: ignore[arg-type]

    try:
        return max((need(one) for one in work), default=0)
    except UnsupportedFeature:  # one that is plugged in has the weights, at least
        return count_parameters(located_config(model)) * BYTES.get(dtype, 1)


def located_config(model: str | Path) -> GPTJConfig:
    """Return the configuration of a model by its name."""
    return GPTJConfig.from_pretrained(model)


def note_run(log: Log, model: str, config: GPTJConfig) -> None:
    """Begin a run in a log."""
    parameters = count_parameters(config)
    machine, fields = describe(), config.to_dict()
    log.add("run", model=model, parameters=parameters, config=fields, machine=machine)


def note_roofline(log: Log, commands: dict[str, tuple[str, ...]], sizes: Sizes) -> None:
    """Measure the machine's roofline, with NumPy and with systems, by name; one after the other."""
    asked = {"buffer": sizes.buffer, "width": sizes.width}
    log.add("limits", source="numpy", **numpy_roofline(**asked).to_dict())
    for name, command in commands.items():
        try:
            worker = Worker(command, QUIET)
            try:
                found = Roofline(**worker.ask("limits", **asked)["limits"])
                log.add("limits", source=name, **found.to_dict())
            finally:
                worker.close()
        except WorkerFailed as error:
            key = {"system": name, "dtype": "limits", "train": False}
            log.add("failed", **key, workload=None, reason=str(error))


def _installed_backends(backends: Sequence[str] | None) -> list[str]:
    """Return the names of backends that are installed."""
    if backends is None:
        return installed_frameworks()
    return [resolve_name(name) for name in backends]


def _check(dtypes: Sequence[str], sizes: Sizes) -> None:
    unknown = [dtype for dtype in dtypes if dtype not in DTYPES]
    if unknown:
        raise ArgumentError(f"There is no dtype {unknown[0]!r}; accepted are {choices(DTYPES)}.")
    quantized = [dtype for dtype in dtypes if dtype in QUANTIZERS]
    if quantized and sizes.train:
        raise ArgumentError(
            f"Weights in {quantized[0]} are not trained: leave out --train, or that dtype."
        )
    if sizes.repeat < 1 or not sizes.budget > 0 or not math.isfinite(sizes.budget):
        raise ArgumentError(
            f"repeat {sizes.repeat!r} and budget {sizes.budget!r} must be positive numbers."
        )
