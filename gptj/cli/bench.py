"""``gptj bench``: how fast a model is here, beside what the machine can do at most."""

import json
from pathlib import Path
from typing import Any

import click

EXAMPLES = """\b
Examples:
  gptj bench
  gptj bench path/to/folder --backend torch,flax --dtype float32,bfloat16
  gptj bench 6B --backend torch --dtype bfloat16 --batch 1,4 --repeat 3
  gptj bench demo --train 2x256 --json > bench.json
  gptj bench demo --picture bench.svg
"""

FILE = click.Path(dir_okay=False, path_type=Path)


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in new releases alone
    """Positive integers with a separator between them: ``1,8`` or ``2x256``."""

    def __init__(self, separator: str, count: int | None = None) -> None:
        """Make the type, for `count` numbers if given."""
        self.separator, self.count = separator, count
        self.name = separator.join(["INTEGER"] * (count or 1)) + ("" if count else ",...")

    def convert(self, value: object, param: object, context: object) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(self.separator)
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r}: accepted are positive integers with {self.separator!r} between.")
        if self.count not in (None, len(parts)):
            self.fail(f"{value!r}: accepted are {self.count} integers, such as 2x256.")
        return tuple(map(int, parts))


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("model", default="demo")
@click.option(
    "-b", "--backend", help="Comma-separated. Default: every framework that is installed."
)
@click.option("--dtype", default="float32", help="Comma-separated: float32, bfloat16, int8 ...")
@click.option("--batch", default="1,8", type=Numbers(","), help="Sequences per batch.")
@click.option("--prompt", type=int, help="Prompt tokens. Default: 128, if the context allows.")
@click.option("--tokens", type=int, help="New tokens. Default: 32, if the context allows.")
@click.option("--prefill", type=int, help="Tokens of the prefill. Default: 512.")
@click.option("--train", type=Numbers("x", 2), help="Examples x tokens of a training step.")
@click.option("--repeat", default=5, help="Repetitions of every measurement.")
@click.option("--budget", default=60.0, help="Most seconds for one measurement's repetitions.")
@click.option("--records", type=FILE, help="File to keep measurements in, and to resume from.")
@click.option("--picture", type=FILE, help="SVG, PNG or PDF to draw: shares of the roofline.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all numbers.")
@click.option("--force", is_flag=True, help="Measure even if the machine is busy.")
def bench(
    model: str,
    backend: str | None,
    dtype: str,
    records: Path | None,
    picture: Path | None,
    as_json: bool,
    force: bool,
    **sizes: Any,
) -> None:
    """Measure the speed of MODEL beside the machine's roofline.

    Prefill, decode steps, training steps and memory, for every backend in a separate process, in
    turns. The roofline is measured first: bytes read and operations done per second.
    """
    from gptj.bench.bar_chart import check_picture, draw
    from gptj.bench.bench import Sizes  # not needed by the other commands
    from gptj.bench.bench import bench as measure
    from gptj.bench.log import Log
    from gptj.bench.table import render

    if picture is not None:
        check_picture(picture)
    report = measure(
        model,
        backends=backend.split(",") if backend is not None else None,
        dtypes=dtype.split(","),
        sizes=Sizes(batches=sizes.pop("batch"), **sizes),
        log=Log(records),
        force=force,
        quiet=False,
    )
    if picture is not None:
        draw(picture, report)
    click.echo(json.dumps(report, indent=2) if as_json else render(report))
