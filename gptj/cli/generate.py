"""``gptj generate``: continue a prompt as a stream of text, or many prompts of a file."""

from time import perf_counter
from typing import Any

import click

from gptj.cli.counting_tokenizer import CountingTokenizer
from gptj.cli.generation_options import (
    chosen_options,
    completed_options,
    generation_options,
)
from gptj.cli.hub_options import hub_options
from gptj.cli.model_options import backend_option, device_option, dtype_option
from gptj.cli.prompts import read_prompts
from gptj.cli.quiet_start import start_backend
from gptj.cli.text_writer import Writer
from gptj.generation.options import GenerationConfig

EXAMPLES = """\b
Examples:
  gptj generate "def fibonacci(n):"
  gptj generate "import os" --seed 7 --temperature 0.8 --top-p 0.95
  gptj generate "class Stack:" --backend flax --max-new-tokens 120
  gptj generate "def add(a, b):" --stop "def " --stop "class " --no-prompt
  gptj generate "def add(a, b):" --num-beams 4 -r 2 -n 12
  gptj generate "with open(" --seed 3 --set typical_p=0.8
  gptj generate "try:" --seed 1 -r 3 --json --quiet
  echo "def main():" | gptj generate -
  printf "import re\\nimport os\\n" | gptj generate --file - > texts.jsonl
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("prompt", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help='File with a prompt per line ("-": standard input); prints JSON lines.',
)
@click.option("-m", "--model", default="demo", help="demo, 6B, a folder or a hub id[@revision].")
@backend_option
@generation_options
@dtype_option
@device_option
@click.option("--batch-size", type=click.IntRange(1), default=8, help="Prompts per batch.")
@click.option("--stream/--no-stream", default=True, help="Show text as it is generated.")
@click.option(
    "--show-prompt/--no-prompt", default=True, help="Print the prompt before its continuation."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per prompt.")
@click.option("-q", "--quiet", is_flag=True, help="Show no speed and no progress.")
@hub_options
def generate(
    prompt: str | None,
    file: str | None,
    model: str,
    backend: str | None,
    dtype: str,
    device: str | None,
    batch_size: int,
    stream: bool,
    show_prompt: bool,
    as_json: bool,
    quiet: bool,
    revision: str | None,
    cache_dir: str | None,
    local_files_only: bool,
    **given: Any,
) -> None:
    """Continue PROMPT, or every line of a file.

    PROMPT "-" is standard input. Decoding is greedy unless the model's generation options say
    otherwise, or a sampling option, --seed, or several texts without beams are given. A single text
    is shown as it is generated; beams and several texts appear at the end.

    A file ending in .jsonl has objects with a "prompt" or a "text", and so may standard input.
    Blank lines are left out.

    JSON lines have "prompt" and "text", the new text only; with -r, "texts", a list.
    """
    prompts = read_prompts(prompt, file)
    options = chosen_options(**given)
    place = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    writer = _load(model, backend, options, place, dtype=dtype, device=device)
    start = perf_counter()
    if as_json or file is not None:
        texts = writer.json_lines(prompts, batch_size, quiet)
    else:
        write = writer.stream if stream and writer.is_single else writer.whole
        texts = write(prompts[0], prompts[0] if show_prompt else "")
    if not quiet:
        click.echo(writer.speed(texts, perf_counter() - start), err=True)


def _load(
    name: str,
    backend: str | None,
    options: dict[str, Any],
    place: dict[str, Any],
    **build: Any,
) -> Writer:
    """Return a writer for a model with these options on top of the model's defaults."""
    from gptj.api import load, load_tokenizer  # keeps --help fast

    tokenizer = load_tokenizer(name, **place)
    framework = start_backend(backend)
    model = load(name, backend=framework.name, **build, **place)
    own = GenerationConfig.from_model(model.config, model.generation_config)
    return Writer(model, CountingTokenizer(tokenizer), own, completed_options(options, own))
