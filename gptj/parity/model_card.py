"""What a repository shows of a report: a section of its model card, and a badge."""

from collections.abc import Iterable, Sequence
from typing import Any

from gptj.parity.text_report import largest

Numbers = dict[str, Any]


def section(content: Numbers, verdict: str) -> str:
    """Return a section in Markdown: the verdict, the errors, and which files and versions."""
    subject = "dtype", "our own run", "error", "ratio"
    rows = _by_dtype(content) if "errors" in content else _by_backend(content)
    if "errors" not in content:
        subject = "dtype", "backend", "hidden states", "output"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    parts = [
        "## Numerical parity",
        f"{verdict.replace('|', ' ')} Errors are differences from a float64 reference model.",
        _table(subject, rows),
        _table(("file", "SHA-256"), [(f"`{f}`", f"`{h}`") for f, h in content["files"].items()]),
        f"Measured with {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def badge(content: Numbers) -> Numbers:
    """Return the fields of an endpoint badge: green where nothing is off, else red."""
    dtypes = [content["dtype"]] if "errors" in content else list(content["runs"])
    message = f"passes in {', '.join(dtypes)}" if content["passed"] else "fails"
    color = "brightgreen" if content["passed"] else "red"
    return {"schemaVersion": 1, "label": "GPT-J parity", "message": message, "color": color}


def _by_dtype(content: Numbers) -> Iterable[Sequence[str]]:
    for dtype, numbers in content["errors"].items():
        shown = f"{numbers['own_error']:.1e}", f"{numbers['error']:.1e}", f"{numbers['ratio']:.3g}"
        yield dtype, *shown


def _by_backend(content: Numbers) -> Iterable[Sequence[str]]:
    for dtype, run in content["runs"].items():
        for name, result in run["backends"].items():
            found = (largest(result, kind) for kind in ("hidden", "output"))
            yield dtype, name, *("-" if n is None else f"{n:.1e}" for n in found)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
