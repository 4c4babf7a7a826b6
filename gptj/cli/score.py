"""``gptj score``: how likely texts are, and which of several continuations is the likeliest."""

import json
from typing import Any

import click

from gptj.cli.model_options import backend_option, device_option, dtype_option
from gptj.cli.prompts import read_lines, read_standard_input
from gptj.cli.quiet_start import start_backend
from gptj.cli.quoting import quoted, quoted_start
from gptj.contract.tokenizer import Tokenizer
from gptj.errors import ArgumentError
from gptj.scoring.perplexity import Score

EXAMPLES = """\b
Examples:
  gptj score "def add(a, b):" "add def b(, a:)"
  gptj score "import numpy as np" --tokens --bos
  gptj score "import numpy as" -c " np" -c " pd" -c " os"
  gptj score --file texts.txt --json --backend flax > scores.jsonl
  cat long.py | gptj score - --stride 256
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("texts", nargs=-1)
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help='File with a text per line ("-": standard input), or with JSON lines (.jsonl).',
)
@click.option(
    "-c",
    "--continuation",
    "continuations",
    multiple=True,
    help="Text to score and rank instead; repeatable.",
)
@click.option("-m", "--model", default="demo", help="demo, 6B, a folder or a hub id[@revision].")
@backend_option
@dtype_option
@device_option
@click.option("--batch-size", type=click.IntRange(1), default=8, help="Texts per batch.")
@click.option("--stride", type=click.IntRange(1), help="Tokens between the windows of a long text.")
@click.option("--bos", is_flag=True, help="Start with <|endoftext|>, to score the first token.")
@click.option("--tokens", is_flag=True, help="Show every token with its log-probability.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line and text.")
def score(
    texts: tuple[str, ...],
    file: str | None,
    continuations: tuple[str, ...],
    model: str,
    backend: str | None,
    dtype: str,
    device: str | None,
    tokens: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the log-probability and the perplexity of TEXTS.

    With -c, every continuation is scored given each text, the likeliest first. TEXT "-" is standard
    input. Logarithms are natural.
    """
    from gptj.api import load, load_tokenizer  # keeps --help fast

    given = _read(texts, file)
    tokenizer = load_tokenizer(model)
    framework = start_backend(backend)
    language_model = load(model, backend=framework.name, dtype=dtype, device=device)
    choices = list(continuations) or None
    found: list[Any] = language_model.score(
        given, continuations=choices, tokenizer=tokenizer, **options
    )
    if as_json:
        lines = [_as_json(text, result) for text, result in zip(given, found, strict=True)]
    elif choices:
        lines = [_ranking(text, ranked) for text, ranked in zip(given, found, strict=True)]
    else:
        lines = [_table(found)]
    click.echo("\n".join(lines))
    if tokens and not as_json:
        for result in _flat(found):
            click.echo(_token_table(result, tokenizer))


def _read(texts: tuple[str, ...], file: str | None) -> list[str]:
    """Return the texts of the command line, of standard input and of a file."""
    given = [read_standard_input() if text == "-" else text for text in texts]
    if file is not None:
        given += read_lines(file)
    if not given:
        raise ArgumentError('There is no text to score. Give some, or "-" for standard input.')
    return given


def _as_json(text: str, found: Score | list[Score]) -> str:
    """Return one line: a score, or a text with its continuations in the order they were given."""
    if not isinstance(found, list):
        return json.dumps(found.to_dict())
    best = max(range(len(found)), key=lambda number: found[number].total)
    scores = [result.to_dict() for result in found]
    return json.dumps({"text": text, "best": best, "continuations": scores})


def _table(scores: list[Any]) -> str:
    head = f"{'perplexity':>12} {'tokens':>7} {'total':>10} {'per token':>10}  text"
    rows = [
        f"{s.perplexity:12.4g} {len(s.tokens):7} {s.total:10.3f} {s.mean:10.3f}  "
        f"{quoted_start(s.text)}"
        for s in scores
    ]
    return "\n".join([head, *rows])


def _ranking(text: str, scores: list[Any]) -> str:
    head = f"{'total':>10} {'per token':>10} {'per byte':>10} {'greedy':>7}  continuation"
    rows = [
        f"{s.total:10.3f} {s.mean:10.3f} {s.per_byte:10.3f} {'yes' if s.is_greedy else 'no':>7}  "
        f"{quoted_start(s.text)}"
        for s in sorted(scores, key=lambda s: -s.total)
    ]
    return "\n".join([quoted_start(text), head, *rows])


def _token_table(result: Score, tokenizer: Tokenizer) -> str:
    pairs = zip(result.logprobs, result.token_ids, strict=True)
    rows = [f"{number:12.4f}  {quoted(tokenizer.decode([token]))}" for number, token in pairs]
    return "\n".join(["", quoted_start(result.text), f"{'logarithm':>12}  token", *rows])


def _flat(found: list[Any]) -> list[Any]:
    nested = [result if isinstance(result, list) else [result] for result in found]
    return [result for results in nested for result in results]
