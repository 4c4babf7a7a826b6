"""``gptj init``: write a new model's checkpoint, for training from scratch or for tests."""

from typing import Any

import click

EXAMPLES = """\b
Examples:
  gptj init --config weights/tiny/config.json ./new
  gptj init --config 6B --dtype bfloat16 ./gpt-j-new
  gptj init --config 6B --head sequence_classification --seed 7 ./classifier
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("dest", type=click.Path())  # a text: the path of "" is the current folder
@click.option("--config", required=True, help="'6B', a config.json, or a folder that holds one.")
@click.option("--dtype", default="float32", help="float32, bfloat16 or float16.")
@click.option("--head", default="causal_lm", help="base, causal_lm, sequence_classification, ...")
@click.option("--seed", default=0, help="Seed of the random values.")
@click.option(
    "--to", "format", default="safetensors", help="safetensors, bin, msgpack, h5, mesh, ggml."
)
@click.option(
    "--max-shard-size", default="5GB", help="Size of one weight file: 500MB, 2GiB or bytes."
)
def init(dest: str, config: str, **options: Any) -> None:
    """Write a newly initialised checkpoint into the folder DEST.

    Every backend draws the same values for a seed. They are written as a stream, with one tensor in
    memory at a time.
    """
    from gptj.tools.init import init as write  # only this command needs it

    write(config, dest, **options)
    click.echo(f"wrote {dest}: gptj.load({str(dest)!r}) loads it", err=True)
