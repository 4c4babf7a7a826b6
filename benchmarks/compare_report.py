"""Make tables, JSON and pictures of what ``compare.py`` measured.

    python benchmarks/compare_report.py RESULTS --out docs/benchmarks

Writes for every model NAME.md, NAME.json, NAME.svg (the share of the roofline, a bar per system),
and where they were measured NAME-context.svg and NAME-batch.svg.
"""

import argparse
import json
import sys
from pathlib import Path

from compare_curves import draw_batches, draw_contexts, is_of_a_curve

from gptj.bench.bar_chart import draw
from gptj.bench.log import Log
from gptj.bench.report import make_report
from gptj.bench.summary import summarise
from gptj.bench.table import duration, render, table
from gptj.errors import GPTJError


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path, metavar="RESULTS")
    parser.add_argument("--out", type=Path, help="RESULTS itself, if not given")
    options = parser.parse_args()
    out = options.out or options.folder
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.folder.glob("*.jsonl")):
        write(Log(path), out, path.stem)


def write(log, out, name):
    """Write all that can be said about one model."""
    report = make_report(log)
    report["startup"] = startup(log)
    (out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = f"# {name}\n\n{render(report)}\n"
    if report["startup"]:
        rows = [[row["name"], duration(row["median"])] for row in report["startup"]]
        text += f"\nA process from start to end\n\n{table(('what', 'time'), rows)}\n"
    curves = [row for row in report["results"] if is_of_a_curve(row)]
    main_rows = [row for row in report["results"] if not is_of_a_curve(row)]
    draw(out / f"{name}.svg", {**report, "results": main_rows})
    text += f"\n![The share of the roofline]({name}.svg)\n"
    if curves:
        draw_contexts(out / f"{name}-context.svg", report["results"])
        draw_batches(out / f"{name}-batch.svg", report["results"])
        text += f"\n![A token against the context]({name}-context.svg)\n"
        text += f"\n![Tokens per second against the batch]({name}-batch.svg)\n"
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(out / f"{name}.md")


def startup(log):
    """Return how long every kind of process took; what failed is left out."""
    times = {}
    for record in log.find("startup"):
        if record["seconds"] is not None:
            times.setdefault(record["name"], []).append(record["seconds"])
    return [{"name": name, **summarise(seconds).to_dict()} for name, seconds in times.items()]


if __name__ == "__main__":
    try:
        main()
    except GPTJError as error:
        sys.exit(f"compare_report.py: {error}")
