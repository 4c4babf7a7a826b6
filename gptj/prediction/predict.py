"""The whole of prediction: from texts, and a model or its name, to classes or answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Unpack, overload

from gptj import hub
from gptj.backends import get_backend
from gptj.errors import ArgumentError, choices
from gptj.generation.option_rules import is_count
from gptj.model.loading import load_model
from gptj.model.pretrained import Pretrained
from gptj.prediction.classification import Classification, classify
from gptj.prediction.head_choice import check_head, served_head
from gptj.prediction.options import PredictOptions
from gptj.prediction.question_answering import Answer, answer
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import find_tokenizer

DEFAULT_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sequence_classification": {"truncate": False},
    "question_answering": {"question": None, "stride": None, "longest": 64},
}
"""The options of one head alone, and their defaults."""

DEFAULT_STRIDE: Final = 128
"""Tokens that windows share, unless a quarter of the length is less."""


@overload
def predict(
    texts: str,
    model: str | Path | Pretrained,
    *,
    question: str,
    stride: int | None = None,
    longest: int | None = None,
    **options: Unpack[PredictOptions],
) -> Answer: ...
@overload
def predict(
    texts: list[str] | tuple[str, ...],
    model: str | Path | Pretrained,
    *,
    question: str,
    stride: int | None = None,
    longest: int | None = None,
    **options: Unpack[PredictOptions],
) -> list[Answer]: ...
@overload
def predict(
    texts: str,
    model: str | Path | Pretrained,
    *,
    truncate: bool = False,
    question: None = None,
    **options: Unpack[PredictOptions],
) -> Classification: ...
@overload
def predict(
    texts: list[str] | tuple[str, ...],
    model: str | Path | Pretrained,
    *,
    truncate: bool = False,
    question: None = None,
    **options: Unpack[PredictOptions],
) -> list[Classification]: ...
def predict(
    texts: str | Sequence[str],
    model: str | Path | Pretrained,
    *,
    tokenizer: GPTJTokenizer | None = None,
    batch_size: int = 8,
    length: int | None = None,
    truncate: bool = False,
    question: str | None = None,
    stride: int | None = None,
    longest: int | None = None,
    **loading: Any,
) -> Any:
    """Classify texts, or answer a question about them.

    Args:
        texts: a text, or a list of them; the contexts where a question is answered.
        model: a model that was loaded, or a name as in `gptj.load`, which is loaded for this call
            with the head that its ``config.json`` names.
        tokenizer: that of the folder which the model was loaded from, or GPT-J's own, if None.
        batch_size: sequences per batch; they are sorted by length.
        length: tokens of a sequence at most; the model's n_positions if None.
        truncate: of a classification: cut off the ends of longer texts instead of refusing them.
        question: what to answer; longer contexts are read in windows.
        stride: of answers: tokens that a window shares with the one before it; 128, or a quarter of
            `length` if that is less, if None.
        longest: of answers: how many tokens they have at most; 64 if None.
        loading: for a name, what `gptj.load` takes: `backend`, `dtype`, `head` ...

    Returns:
        A ``gptj.prediction.classification.Classification`` or a
        ``gptj.prediction.question_answering.Answer``; a list of them for a list of texts.

    Raises:
        ArgumentError: for arguments out of range or of the other head, and where nothing says which
            head a name has.
        UnsupportedFeature: for a model that neither classifies nor answers.
        InputError, TokenOutOfRange, SequenceTooLong: for a text that is empty, was encoded for
            another model, or is too long.
    """
    net = _loaded(model, loading)
    options = {"truncate": truncate, "question": question, "stride": stride, "longest": longest}
    chosen = _options(net, options, batch_size, length)
    inputs = [texts] if isinstance(texts, str) else list(texts)
    reader = tokenizer or find_tokenizer(net.source_folder)
    work = classify if net.head == "sequence_classification" else answer
    found = work(net.backend, net, inputs, reader, **chosen) if inputs else []
    return found[0] if isinstance(texts, str) else found


def _loaded(model: str | Path | Pretrained, loading: dict[str, Any]) -> Pretrained:
    """Return a model with a head that predicts, loading it by its name if that is what is given."""
    if not isinstance(model, str | Path):
        if loading:
            raise ArgumentError(
                f"predict() has no argument {choices(loading)} for a model that is loaded already."
            )
        check_head(model.head)
        return model
    where = {key: value for key, value in loading.items() if key in hub.OPTIONS}
    head = loading.pop("head", None) or served_head(model, **where)
    check_head(head)
    return load_model(get_backend(loading.pop("backend", None)), head, model, **loading)


def _options(
    model: Pretrained, given: Mapping[str, Any], batch_size: int, length: int | None
) -> dict[str, Any]:
    """Return what the model's head takes, complete and checked.

    Raises:
        ArgumentError: for what belongs to the other head, is missing or is out of range.
    """
    usual, limit = DEFAULT_OPTIONS[model.head], model.config.n_positions
    others = [n for n, value in given.items() if value not in (None, False) and n not in usual]
    if others:
        raise ArgumentError(
            f"{choices(others)} has no effect on a model whose head is {model.head!r}. Leave it "
            "out, or take a model with the other head."
        )
    chosen = {name: usual[name] if given[name] is None else given[name] for name in usual}
    chosen |= {"batch_size": batch_size, "length": limit if length is None else length}
    for name in ("batch_size", "length", "longest"):
        if name in chosen and not is_count(chosen[name], 1):
            raise ArgumentError(f"{name} must be a positive integer; found {chosen[name]!r}.")
    if chosen["length"] > limit:
        raise ArgumentError(f"length must be at most n_positions = {limit}; found {length}.")
    return _with_question(chosen) if model.head == "question_answering" else chosen


def _with_question(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an answer, with the stride that windows have."""
    if not isinstance(chosen["question"], str):
        raise ArgumentError(
            "The model answers questions about a text, so it needs one: question=..., or "
            f"--question; found {chosen['question']!r}."
        )
    if chosen["stride"] is None:
        chosen["stride"] = min(DEFAULT_STRIDE, chosen["length"] // 4)
    if not is_count(chosen["stride"], 0):
        raise ArgumentError(f"stride must be 0 or more tokens; found {chosen['stride']!r}.")
    return chosen
