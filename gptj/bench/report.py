"""From records to what people want to know: medians, spreads, and shares of the roofline."""

from collections.abc import Iterable, Iterator
from typing import Any

from gptj.bench.costs import cost_of
from gptj.bench.log import OF_A_SYSTEM, Log, LogRecord
from gptj.bench.roofline import Roofline, best
from gptj.bench.summary import summarise
from gptj.bench.workloads import Workload
from gptj.errors import DataError
from gptj.model.config import GPTJConfig

Report = dict[str, Any]


def make_report(log: Log) -> Report:
    """Return the summary of all records, as JSON can hold it.

    Returns:
        ``model``, ``machine``, ``limits`` (the best of each), ``limits_of`` (by source),
        ``systems`` (start, first token cold, memory), ``results`` (a row per system and workload),
        ``failures``.

    Raises:
        DataError: where nothing was measured.
    """
    runs = log.find("run")
    if not runs or not log.find("limits"):
        raise DataError(
            f"{log.path or 'The log'} holds no complete run: found {len(log.records)} records, "
            "none of a run or none of its limits. Measure first."
        )
    run, limits = runs[-1], _rooflines(log)
    config = GPTJConfig.from_dict(run["config"])
    return {
        "model": run["model"],
        "parameters": run["parameters"],
        "machine": run["machine"],
        "limits": best(limits.values()).to_dict(),
        "limits_of": {source: found.to_dict() for source, found in limits.items()},
        "systems": [_system(log, key) for key in _distinct(log, OF_A_SYSTEM, "start")],
        "results": list(_results(log, config, best(limits.values()))),
        "failures": [{k: r[k] for k in r if k != "what"} for r in log.find("failed")],
    }


def _rooflines(log: Log) -> dict[str, Roofline]:
    """Return the best of every source; a later run may have seen more than an earlier one."""
    found: dict[str, Roofline] = {}
    for record in log.find("limits"):
        rates = Roofline(**{name: record[name] for name in Roofline().to_dict()})
        found[record["source"]] = best([found.get(record["source"], Roofline()), rates])
    return found


def _distinct(log: Log, names: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    """Return the different values that some fields have together, in order."""
    found: list[dict[str, Any]] = []
    for record in log.find(what):
        key = {name: record[name] for name in names}
        if key not in found:
            found.append(key)
    return found


def _system(log: Log, key: dict[str, Any]) -> Report:
    """Return how a system starts, and what it holds in memory above its framework."""
    starts, memory = log.find("start", **key), log.find("memory", **key)
    cold = [r["seconds"] for r in log.find("cold", **key) if r["workload"]["kind"] == "first"]
    begun = {name: _median(record[name] for record in starts) for name in ("import", "load")}
    return {
        **key,
        **begun,
        "cold": sum(begun.values()) + _median(cold) if cold else None,
        "loaded": _above_base(starts, "loaded", "resident"),
        "peak": _above_base(memory, "peak", "peak"),
    }


def _above_base(records: list[LogRecord], name: str, field: str) -> int | None:
    """Return the most bytes above those of the imported framework, if the system reports them."""
    known = [record for record in records if record[name] and record["base"]]
    return max((r[name][field] - r["base"]["resident"] for r in known), default=None)


def _median(values: Iterable[float]) -> float:
    return summarise(list(values)).median


def _results(log: Log, config: GPTJConfig, limits: Roofline) -> Iterator[Report]:
    """Yield a row for every workload of a system."""
    for key in _distinct(log, (*OF_A_SYSTEM, "workload"), "time"):
        records = log.find("time", **key)
        found = summarise([r["seconds"] for r in records], [r["disturbed"] for r in records])
        work = Workload(**key["workload"])
        least = limits.seconds(cost_of(work, config, key["dtype"]), key["dtype"])
        yield {
            **key,
            **found.to_dict(),
            "tokens_per_second": work.tokens / found.median,
            "limit": least,
            "fraction": least / found.median,
        }
