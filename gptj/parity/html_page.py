"""The report as one self-contained HTML page: verdict, picture, tables."""

from html import escape
from typing import Any, Final

from gptj.parity import svg_chart
from gptj.parity.text_report import place, verdict

Numbers = dict[str, Any]

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --bad: #d22; --good: #180; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.3em; } .fail { color: var(--bad); } .pass { color: var(--good); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; }
td, th { padding: .15em .8em; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; }
svg { width: 100%; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: var(--line); } .limit { stroke: currentColor; stroke-dasharray: 6 5; }
.wrong { fill: none; stroke: var(--bad); stroke-width: 3; }
"""


def render(content: Numbers) -> str:
    """Return the page."""
    state = "pass" if content["passed"] else "fail"
    parts = [
        f'<h1 class="{state}">{escape(verdict(content))}</h1>',
        f"<p>{escape(content['checkpoint'])}, head {escape(content['head'])}. A difference is the "
        "largest over all attended positions; a dashed line is what rounding may do.</p>",
    ]
    for dtype, run in content["runs"].items():
        parts += [f"<h2>{dtype}</h2>", svg_chart.render(run["pairs"])]
        parts += [_backend(name, result) for name, result in run["backends"].items()]
    parts.append(table(("package", "version"), list(content["versions"].items())))
    parts.append(table(("file", "sha256"), list(content["files"].items())))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>gptj parity: {state}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _backend(name: str, result: Numbers) -> str:
    rows = [
        (place(n["name"]), f"{n['max']:.1e}", f"{n['rms']:.1e}", f"{n['limit']:.1e}")
        for n in result["modules"]
    ]
    facts = [f"{what}: {why}" for what, why in result["notes"].items()]
    if "loss" in result:
        facts.append(f"loss {result['loss']['found']:.6f}, off by {result['loss']['max']:.1e}")
    if result["gradients"]:
        worst = result["gradients"]["worst"]
        facts.append(f"worst gradient off by {worst['max']:.1e}: {worst['name']}")
    if tokens := result.get("next_token"):
        facts.append(
            f"next token: KL {tokens['kl_mean']:.1e} nats on average, {tokens['kl_max']:.1e} at "
            f"most; the likeliest is the same at {tokens['top1']:.1%}"
        )
    listed = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    header = ("module", "largest difference", "RMS", "allowed")
    details = f"<details><summary>every module</summary>{table(header, rows)}</details>"
    return f"<h3>{escape(name)} against the oracle</h3><ul>{listed}</ul>{details}"


def table(header: tuple[str, ...], rows: list[Any]) -> str:
    """Return a table."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
