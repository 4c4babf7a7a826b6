"""The measurements: systems in turn, repetition by repetition, each behind the gate."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gptj.bench.contenders import Contender, groups
from gptj.bench.log import Log
from gptj.bench.quiet_gate import Gate
from gptj.bench.worker_process import Worker, WorkerFailed, WorkerLost
from gptj.bench.workloads import Workload
from gptj.system.progress import progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass
class Member:
    """A contender, and what is there of it.

    Attributes:
        worker: its process, or None where it has not begun or has ended.
        warm: what this process has done before, so that nothing of it is compiled any more.
    """

    contender: Contender
    worker: Worker | None = None
    warm: set[Workload] = field(default_factory=set)


@dataclass
class Runner:
    """Measures groups of contenders.

    Attributes:
        log: what was measured already, which is not done again, and where all goes.
        gate: finds disturbed measurements.
        repetitions: how often every workload is timed.
        budget: seconds for all repetitions of one workload of one system; a slow one is timed
            less often, but at least once.
        deadline: seconds after which a system that has not answered is ended.
        quiet: whether to show no progress.
    """

    log: Log
    gate: Gate
    repetitions: int = 5
    budget: float = 60.0
    deadline: float = 600.0
    quiet: bool = False

    def run_all(
        self, contenders: Sequence[Contender], workloads: Sequence[Workload], room: int
    ) -> None:
        """Measure contenders, as many at a time as fit into so many bytes.

        One that does not fit alone becomes a failure: the machine would stand still.
        """
        for one in contenders:
            if one.need > room and not self.log.find("failed", **one.key, workload=None):
                reason = f"needs about {one.need / 1e9:.1f} GB, {room / 1e9:.1f} are free"
                self.log.add("failed", **one.key, workload=None, reason=reason)
        for group in groups([one for one in contenders if one.need <= room], room):
            self.run(group, workloads)

    def run(self, contenders: Sequence[Contender], workloads: Sequence[Workload]) -> None:
        """Measure contenders that are loaded at the same time; failures become records."""
        open_ones = [c for c in contenders if any(self._is_open(c, w) for w in workloads)]
        members: list[Member] = []
        total = len(open_ones) * len(workloads) * (self.repetitions + 1)
        with progress_bar(total, "run", hidden=self.quiet) as bar, ExitStack() as stack:
            for contender in open_ones:
                bar.set_description(f"starting {contender}")
                members.append(Member(contender))
                stack.callback(self._end, members[-1])
                self._warm(members[-1], workloads, bar)
            for repetition in range(self.repetitions):
                for workload in workloads:
                    for member in members:
                        bar.set_description(f"{member.contender}: {workload}")
                        self._time(member, workload, repetition)
                        bar.update()

    def _is_open(self, contender: Contender, workload: Workload, repetition: int = -1) -> bool:
        """Return whether something is to be timed, in this repetition if one is given."""
        key, work = contender.key, workload.to_dict()
        if self.log.failed(key, work):
            return False
        count = self.log.count(key, work)
        most = self._affordable(key, work)
        return count < most and (repetition < 0 or count <= repetition)

    def _affordable(self, key: dict[str, Any], work: dict[str, Any]) -> int:
        """Return the estimated number of repetitions that fit the budget."""
        found = self.log.find("time", **key, workload=work)
        spent = sum(record["elapsed"] for record in found)
        return len(found) if found and spent > self.budget else self.repetitions

    def _warm(self, member: Member, workloads: Sequence[Workload], bar: "tqdm[Any]") -> None:
        """Load a system, and let it do everything once."""
        for workload in workloads:
            bar.set_description(f"{member.contender}: {workload} for the first time")
            if self._is_open(member.contender, workload):
                self._prepare(member, workload)
            bar.update()
        if member.worker is not None:
            self._note_memory(member)

    def _prepare(self, member: Member, workload: Workload) -> bool:
        """Do what a process does slowly the first time; return whether it is ready to be timed."""
        if not self._begin(member):
            return False
        if workload not in member.warm:
            with self._noting_failure(member, workload):
                self._note_first(member, workload)
        return workload in member.warm

    def _begin(self, member: Member) -> bool:
        """Start and load a contender if it is not there; return whether it is now."""
        if member.worker is not None:
            return True
        contender = member.contender
        with self._noting_failure(member, None):
            member.worker = Worker(contender.command, contender.environment)
            asked = {"model": contender.model, "dtype": contender.dtype, "train": contender.train}
            load = member.worker.ask("load", self.deadline, **asked)["seconds"]
            base, loaded = member.worker.memory, member.worker.ask("memory")["memory"]
            seconds = {"import": member.worker.seconds, "load": load}
            self.log.add("start", **contender.key, **seconds, base=base, loaded=loaded)
            return True
        self._end(member)
        return False

    def _time(self, member: Member, workload: Workload, repetition: int) -> None:
        """Time a workload once, if it is its turn."""
        contender = member.contender
        is_open = self._is_open(contender, workload, repetition)
        if not is_open or not self._prepare(member, workload):
            return
        with self._noting_failure(member, workload):
            start = time.perf_counter()
            seconds, disturbed = self.gate.run(lambda: self._ask(member, workload))
            self.log.add(
                "time",
                **contender.key,
                workload=workload.to_dict(),
                seconds=seconds,
                disturbed=disturbed,
                elapsed=time.perf_counter() - start,
            )

    def _ask(self, member: Member, workload: Workload) -> float:
        assert member.worker is not None  # the caller has started it
        answer = member.worker.ask("measure", self.deadline, **workload.to_dict())
        return float(answer["seconds"])

    @contextmanager
    def _noting_failure(self, member: Member, workload: Workload | None) -> Iterator[None]:
        """Turn what a system could not do into a record; all of it where `workload` is None."""
        try:
            yield
        except WorkerFailed as error:
            work = None if workload is None else workload.to_dict()
            self.log.add("failed", **member.contender.key, workload=work, reason=str(error))
            if isinstance(error, WorkerLost):
                self._end(member)

    def _note_first(self, member: Member, workload: Workload) -> None:
        """Do a workload for the first time; how long that took says nothing of a further token."""
        seconds = self._ask(member, workload)
        member.warm.add(workload)
        if workload.kind != "decode":
            work = workload.to_dict()
            self.log.add("cold", **member.contender.key, workload=work, seconds=seconds)

    def _note_memory(self, member: Member) -> None:
        assert member.worker is not None
        memory = member.worker.ask("memory")["memory"]
        base = member.worker.memory
        self.log.add("memory", **member.contender.key, base=base, peak=memory)

    def _end(self, member: Member) -> None:
        if member.worker is not None:
            member.worker.close()
            member.worker = None
            member.warm.clear()
