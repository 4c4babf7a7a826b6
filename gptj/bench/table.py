"""A report as tables of text, which are Markdown, too."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from gptj.bench.report import Report
from gptj.bench.workloads import KINDS, Workload

ResultRow = dict[str, Any]

GB: Final = 1e9


def render(report: Report) -> str:
    """Return all tables of a report."""
    parts = [_head(report)]
    for kind, meaning in KINDS.items():
        rows = [row for row in report["results"] if row["workload"]["kind"] == kind]
        if rows:
            parts.append(f"{kind}: {meaning}\n\n{results_table(rows)}")
    if report["systems"]:
        parts.append(f"Start, and memory above that of the framework\n\n{_starts(report)}")
    if report["failures"]:
        parts.append("Not done\n\n" + "\n".join(map(_failure, report["failures"])))
    return "\n\n".join(parts)


def results_table(rows: Sequence[ResultRow]) -> str:
    """Return the results of one kind, the fastest system of a workload first."""
    order = sorted(rows, key=lambda row: (_size(row), row["dtype"], row["median"]))
    columns: dict[str, Callable[[ResultRow], str]] = {
        "tokens": lambda row: str(Workload(**row["workload"])).partition(" ")[2],
        "dtype": lambda row: row["dtype"],
        "system": lambda row: row["system"],
        "time": lambda row: duration(row["median"]),
        "quartiles": lambda row: f"{duration(row['low'])} to {duration(row['high'])}",
        "tokens/s": lambda row: f"{row['tokens_per_second']:,.1f}",
        "of roofline": lambda row: f"{row['fraction']:.0%}",
        "runs": _runs,
    }
    return table(columns, [[show(row) for show in columns.values()] for row in order])


def table(titles: Sequence[str] | Any, rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with columns of one width."""
    lines = [list(titles), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def duration(seconds: float | None) -> str:
    """Return seconds as people read them: ``"33.1 ms"``."""
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if abs(seconds) >= 1 else f"{seconds * 1000:.1f} ms"


def _head(report: Report) -> str:
    machine, limits = report["machine"], report["limits"]
    return (
        f"{report['model']}: {report['parameters'] / 1e6:,.1f} million parameters, on "
        f"{machine['cores']} cores of {machine['processor']}\n"
        f"limits: {limits['bytes'] / GB:.1f} GB/s read, {limits['float32'] / GB:.0f} GFLOP/s in "
        f"float32, {limits['bfloat16'] / GB:.0f} in bfloat16"
    )


def _size(row: ResultRow) -> tuple[int, int]:
    return row["workload"]["batch"], row["workload"]["prompt"]


def _runs(row: ResultRow) -> str:
    """Return how many repetitions there are, and how many of them were disturbed."""
    return (
        f"{row['count']} ({row['disturbed']} disturbed)" if row["disturbed"] else f"{row['count']}"
    )


def _starts(report: Report) -> str:
    columns = ("system", "dtype", "import", "load", "first token, cold", "loaded", "peak")
    rows = [
        [
            row["system"] + (", training" if row["train"] else ""),
            row["dtype"],
            *(duration(row[name]) for name in ("import", "load", "cold")),
            *(
                "" if row[name] is None else f"{row[name] / GB:.2f} GB"
                for name in ("loaded", "peak")
            ),
        ]
        for row in report["systems"]
    ]
    return table(columns, rows)


def _failure(row: ResultRow) -> str:
    what = "nothing" if row["workload"] is None else f"no {Workload(**row['workload'])}"
    return f"- {row['system']}, {row['dtype']}: {what}: {row['reason']}"
