"""The report on a function, file or engine as one self-contained HTML page."""

from html import escape
from typing import Any, Final

from gptj.parity.against_text import text_in_words, verdict
from gptj.parity.html_page import STYLE, table
from gptj.parity.svg_bars import bars
from gptj.parity.text_report import place

Numbers = dict[str, Any]

LEAST: Final = 1e-30


def render(content: Numbers) -> str:
    """Return the page: verdict, errors, ratio of every module, ranking of the mistakes."""
    state = "pass" if content["passed"] else "fail"
    parts = [
        f'<h1 class="{state}">{escape(verdict(content))}</h1>',
        f"<p>{escape(content['checkpoint'])} against {escape(content['against'])}, judged as "
        f"{content['dtype']}. Errors are relative to the RMS of a float64 oracle.</p>",
        table(
            ("dtype", "error", "our own", "ratio"), [_row(*e) for e in content["errors"].items()]
        ),
        f"<p>{escape(text_in_words(content['text']))}.</p>" if content.get("text") else "",
        "<h2>Error of each module, as a multiple of our own run's</h2>",
        bars(
            [
                (place(m["name"]), m["error"] / max(LEAST, m["own_error"]))
                for m in content["modules"]
            ]
        ),
    ]
    if content["diagnosis"] is not None and content["diagnosis"]["hypotheses"]:
        found = content["diagnosis"]["hypotheses"]
        parts.append("<h2>Share of the squared difference that a mistake explains</h2>")
        parts.append(bars([(f["name"], max(0.0, f["explained"])) for f in found], share=True))
        listed = "".join(f"<li>{escape(f['sentence'])} {escape(f['remedy'])}</li>" for f in found)
        parts.append(f"<ol>{listed}</ol>")
    parts.append(table(("package", "version"), list(content["versions"].items())))
    parts.append(table(("file", "sha256"), list(content["files"].items())))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>gptj parity: {state}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _row(dtype: str, numbers: Numbers) -> tuple[str, ...]:
    shown = (f"{numbers[key]:.1e}" for key in ("error", "own_error"))
    return (dtype, *shown, f"{numbers['ratio']:.3g}")
