"""``gptj convert``: write a checkpoint in another form or dtype."""

from typing import Any

import click

from gptj.cli.hub_options import hub_options

EXAMPLES = """\b
Examples:
  gptj convert demo ./demo-flax --to msgpack --dtype float32
  gptj convert EleutherAI/gpt-j-6B ./gpt-j --dtype bfloat16
  gptj convert 6B ./gpt-j-int8 --quantize int8 --dtype bfloat16
  gptj convert ./step_383500 ./gpt-j
  gptj convert demo ./demo-ggml --to ggml --quantize q8_0
  gptj convert ./small-mesh ./small --config config.json
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("source")
@click.argument("dest", type=click.Path())  # a text: the path of "" is the current folder
@click.option("--to", default="safetensors", help="safetensors, bin, msgpack, h5, mesh or ggml.")
@click.option("--dtype", help="float32, bfloat16 or float16; by default tensors keep their dtypes.")
@click.option(
    "--quantize",
    help="int8 or int4; in ggml q8_0, q5_1, q5_0, q4_1 or q4_0; none dequantizes; by default "
    "weights stay as they are.",
)
@click.option(
    "--max-shard-size", default="5GB", help="Size of one weight file: 500MB, 2GiB or bytes."
)
@click.option("--config", help="A config.json or '6B', if SOURCE has none.")
@hub_options
def convert(source: str, dest: str, **options: Any) -> None:
    """Convert a checkpoint to another format or dtype.

    Writes SOURCE to the folder DEST. SOURCE is a folder, a file, a preset or a hub id, in any
    published format of GPT-J, including the shards of mesh-transformer-jax and ggml files. No
    framework is needed, and one tensor is in memory at a time.
    """
    from gptj.tools.convert import convert as write  # only this command needs it

    write(source, dest, **options)
    click.echo(f"wrote {dest}: gptj.load({str(dest)!r}) loads it", err=True)
