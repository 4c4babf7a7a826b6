"""A system in a separate process, which answers requests as lines of JSON.

Several systems stay loaded and are measured in turn. This side needs nothing but NumPy, so
that it also runs in environments in which other systems live.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from gptj.bench.workloads import Workload
from gptj.system.memory import process_memory

Ids = npt.NDArray[np.int64]


class System(Protocol):
    """What is measured. Every method returns when its result has been computed.

    Attributes:
        vocab_size: of the model that was loaded.
    """

    vocab_size: int

    def load(self, model: str, dtype: str, train: bool) -> None:
        """Load a model, to train it or to use it.

        Args:
            model: a folder, or a name that the system knows.
            dtype: of the computation; of the parameters, too, unless they are trained.
        """

    def prefill(self, ids: Ids) -> None:
        """Compute the logits of all tokens (B, T)."""

    def decode(self, ids: Ids, count: int) -> Ids:
        """Return exactly so many tokens, (B, count), that follow greedily after prompts (B, T)."""

    def train_step(self, ids: Ids) -> float:
        """Update the parameters once with AdamW on sequences (B, T); return the loss before."""

    def limits(self, buffer: int, width: int) -> dict[str, float]:
        """Return what ``gptj.bench.roofline.Roofline`` holds, measured with the framework."""


def serve(system: System) -> None:
    """Answer requests until standard input ends.

    What the frameworks print goes to standard error. An exception is an answer, too.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _send(answers, {"memory": process_memory()})
    for line in sys.stdin:
        try:
            answer = _answer(system, **json.loads(line))
        except Exception as error:  # whatever a system raises is for the other side to judge
            answer = {"error": f"{type(error).__name__}: {error}"}
        _send(answers, answer)


def seconds_of(system: System, work: Workload) -> float:
    """Return how long a workload takes.

    The time of a further token is that of a long text less that of one token, by the tokens.
    """
    ids = np.random.default_rng(0).integers(0, system.vocab_size, (work.batch, work.prompt))
    if work.kind == "prefill":
        return _timed(lambda: system.prefill(ids))
    if work.kind == "train":
        return _timed(lambda: system.train_step(ids))
    first = _timed(lambda: _decoded(system, ids, 1))
    if work.kind == "first":
        return first
    whole = _timed(lambda: _decoded(system, ids, 1 + work.new))
    if whole <= first:  # the first token was disturbed; the mean of all is an upper limit
        return whole / (1 + work.new)
    return (whole - first) / work.new


def _answer(system: System, do: str, **given: Any) -> dict[str, Any]:
    """Do what is asked for; `do` is the name of a request."""
    if do == "load":
        return {"seconds": _timed(lambda: system.load(**given))}
    if do == "measure":
        return {"seconds": seconds_of(system, Workload(**given))}
    if do == "memory":
        return {"memory": process_memory()}
    if do == "limits":
        return {"limits": system.limits(**given)}
    raise ValueError(f"unknown request {do!r}; known are 'load', 'measure', 'memory', 'limits'")


def _decoded(system: System, ids: Ids, count: int) -> None:
    """Decode, and make sure that nothing ended early."""
    found = np.shape(system.decode(ids, count))
    if found != (len(ids), count):
        raise ValueError(f"{(len(ids), count)} new tokens were asked for, {found} were written")


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _send(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
