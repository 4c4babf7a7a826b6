"""``gptj predict``: classes of texts, or answers to a question about them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gptj.cli.hub_options import hub_options
from gptj.cli.model_options import backend_option, device_option, dtype_option
from gptj.cli.prompts import read_lines, read_standard_input
from gptj.cli.quiet_start import start_backend
from gptj.cli.quoting import quoted_start
from gptj.errors import ArgumentError

if TYPE_CHECKING:  # --help need not wait for it
    from gptj.prediction.classification import Classification

EXAMPLES = """\b
Examples:
  gptj predict my-classifier "What a waste of time." "I want more of it."
  gptj predict my-classifier --file reviews.txt --json > classes.jsonl
  gptj predict my-reader --question "Who wrote it?" "Ada wrote it in 1843."
  cat chapter.txt | gptj predict my-reader --question "Where is the boat?" -

Such models come from gptj finetune, save_pretrained or save_lora, or transformers.
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("model")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help='File with a text per line ("-": standard input), or with JSON lines (.jsonl).',
)
@click.option("--question", help="Question to answer from each text.")
@click.option("--truncate", is_flag=True, help="Cut texts that are too long.")
@click.option("--length", type=click.IntRange(1), help="Tokens per sequence. Default: all.")
@click.option("--stride", type=click.IntRange(0), help="Tokens that windows of a text share.")
@click.option("--longest", type=click.IntRange(1), help="Most tokens of an answer. Default: 64.")
@click.option("--head", help="Head, where config.json names none.")
@backend_option
@dtype_option
@device_option
@click.option("--batch-size", type=click.IntRange(1), default=8, help="Sequences per batch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line and text.")
@hub_options
def predict(
    model: str,
    texts: tuple[str, ...],
    file: str | None,
    truncate: bool,
    head: str | None,
    backend: str | None,
    dtype: str,
    device: str | None,
    as_json: bool,
    revision: str | None,
    cache_dir: str | None,
    local_files_only: bool,
    **options: Any,
) -> None:
    """Classify each TEXT, or answer --question from it.

    MODEL is a folder or a hub id[@revision] with a classification or a question-answering head, or
    an adapter for one. TEXT "-" is standard input.

    A classifier shows the likeliest label with its probability, a multi-label classifier every
    label, a regression its values. To answer a question, texts longer than the model's context are
    read in windows.
    """
    given = _texts(texts, file)
    place: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    from gptj.api import load, load_tokenizer  # keeps --help fast
    from gptj.prediction.head_choice import check_head, served_head
    from gptj.prediction.predict import predict as predict_all

    head = head or served_head(model, **place)
    check_head(head)  # before the framework starts
    tokenizer = load_tokenizer(model, **place)
    framework = start_backend(backend)
    net = load(model, backend=framework.name, head=head, dtype=dtype, device=device, **place)
    found = predict_all(given, net, tokenizer=tokenizer, truncate=truncate, **options)
    lines = [json.dumps(one.to_dict()) for one in found]
    click.echo("\n".join(lines if as_json else _table(head, found)))


def _texts(texts: Sequence[str], file: str | None) -> list[str]:
    """Return the texts of the command line, with standard input for "-", or the lines of a file."""
    if texts and file is not None:
        raise ArgumentError("TEXT and --file exclude each other: give one of them.")
    if file is not None:
        return read_lines(file)
    if not texts:
        raise ArgumentError(
            'There is no text. Give some, or "-" for standard input, or --file FILE with one a '
            "line."
        )
    # the last line end of a stream is not part of the text to classify
    return [read_standard_input().removesuffix("\n") if text == "-" else text for text in texts]


def _table(head: str, found: Sequence[Any]) -> list[str]:
    """Return the lines of a table with its head."""
    if head == "question_answering":
        rows = [[f"{a.score:.4f}", f"{a.start}-{a.end}", quoted_start(a.answer)] for a in found]
        return _aligned([["score", "place", "answer"], *rows])
    rows = [row for one in found for row in _rows(one)]
    kind = "value" if found[0].problem_type == "regression" else "probability"
    return _aligned([["label", kind, "text"], *rows])


def _rows(found: "Classification") -> list[list[str]]:
    """Return the rows of one text: its one label, or all labels where they do not exclude."""
    is_single = found.problem_type == "single_label_classification"
    labels = found.labels if is_single else found.values
    return [[label, f"{found.values[label]:.4f}", quoted_start(found.text)] for label in labels]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of three columns as lines; the last column may have any width."""
    first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
    return [f"{one:<{first}}  {two:>{second}}  {rest}" for one, two, rest in rows]
