"""``gptj generate``: continue a prompt, shown while it is written."""

import sys
from typing import Any

import click
import numpy as np

from gptj.backends import ALIASES, BUILT_IN
from gptj.cli.quiet import start_backend
from gptj.errors import ArgumentError

EXAMPLES = """\b
Examples:
  gptj generate "def fibonacci(n):"
  gptj generate "import os" --seed 7 --temperature 0.8 --top-p 0.95
  gptj generate "class Stack:" --backend flax --max-new-tokens 120
  gptj generate "Hello, my dog is" --model path/to/folder --dtype bfloat16
  echo "def main():" | gptj generate -
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("prompt")
@click.option("-m", "--model", default="demo", help="demo, 6B, a folder, or a hub id[@revision].")
@click.option(
    "-b",
    "--backend",
    help=f"{', '.join(BUILT_IN)} or {', '.join(ALIASES)}; else the first that is installed.",
)
@click.option("-n", "--max-new-tokens", type=click.IntRange(1), default=64, help="Tokens to write.")
@click.option("--temperature", type=float, help="Sample; below 1 is sharper, above 1 is wilder.")
@click.option("--top-k", type=int, help="Sample among the k likeliest tokens; 0 keeps all.")
@click.option("--top-p", type=float, help="Sample among tokens that together reach p.")
@click.option("--seed", type=int, help="Sample repeatably: the same text on every backend.")
@click.option("--dtype", default="auto", help="float32, bfloat16, float16, or the checkpoint's.")
@click.option("--device", help="The framework's own name of a device.")
@click.option("--stream/--no-stream", default=True, help="Show text while it is written.")
def generate(
    prompt: str,
    model: str,
    backend: str | None,
    dtype: str,
    device: str | None,
    stream: bool,
    **options: Any,
) -> None:
    """Continue PROMPT, or standard input for "-".

    Greedy, which gives the same text every time, unless a sampling option or --seed is given.
    """
    from gptj.api import load, load_tokenizer  # --help need not wait for the tokenizer

    text = sys.stdin.read() if prompt == "-" else prompt
    tokenizer = load_tokenizer(model)
    ids = np.asarray([tokenizer.encode(text)], np.int64)
    if ids.size == 0:
        raise ArgumentError(
            "The prompt is empty. Give some text, or '<|endoftext|>' to start from nothing."
        )
    chosen = {name: value for name, value in options.items() if value is not None}
    chosen["do_sample"] = len(chosen) > 1  # more than max_new_tokens
    framework = start_backend(backend)
    language_model = load(model, backend=framework.name, dtype=dtype, device=device)
    click.echo(text, nl=False)
    if stream:
        _stream(language_model, tokenizer, ids, chosen)
    else:
        written = framework.to_numpy(language_model.generate(ids, **chosen))
        click.echo(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))


def _stream(model: Any, tokenizer: Any, ids: Any, options: dict[str, Any]) -> None:
    """Write the text piece by piece, as its tokens are chosen."""
    from gptj.generation.streaming import TextStreamer

    def write(piece: str) -> None:
        click.echo(piece, nl=False)
        sys.stdout.flush()

    skip = frozenset((tokenizer.eos_token_id,))
    model.generate(ids, streamer=TextStreamer(tokenizer, write, skip), **options)
    click.echo()
