"""``gptj convert``: a checkpoint in another form, dtype or size of files."""

from pathlib import Path
from typing import Any

import click

from gptj.cli.hub_options import hub_options

EXAMPLES = """\b
Examples:
  gptj convert demo ./demo-flax --to msgpack --dtype float32
  gptj convert EleutherAI/gpt-j-6B ./gpt-j --dtype bfloat16
  gptj convert EleutherAI/gpt-j-6B ./gpt-j-int8 --quantize int8 --dtype bfloat16
  gptj convert ./step_383500 ./gpt-j
  gptj convert ./small-mesh ./small --config config.json
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("source")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--to", default="safetensors", help="safetensors, bin, msgpack, h5 or mesh.")
@click.option("--dtype", help="float32, bfloat16 or float16; else every tensor keeps its bits.")
@click.option("--quantize", help="int8 or int4: fewer bits; none: widen them; else as they are.")
@click.option("--max-shard-size", default="5GB", help="Of one weight file: 500MB, 2GiB, bytes.")
@click.option("--config", help="A config.json or '6B', where SOURCE has none.")
@hub_options
def convert(source: str, dest: Path, **options: Any) -> None:
    """Write the checkpoint SOURCE into the folder DEST in another form.

    SOURCE is a folder, a file, a preset or a hub id, in any form that GPT-J was published in, the
    shards of mesh-transformer-jax among them. No framework is needed, and one tensor is in memory
    at a time.
    """
    from gptj.tools.convert import convert as write  # not needed by the other commands

    write(source, dest, **options)
    click.echo(f"wrote {dest}: gptj.load({str(dest)!r}) loads it", err=True)
