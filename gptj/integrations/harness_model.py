"""What an evaluation harness gives to make a model, checked: a name or a model, and settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptj.api import load, load_tokenizer
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.generation.option_rules import is_count
from gptj.model.pretrained import Pretrained
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import find_tokenizer


def harness_model(pretrained: str | Path | Pretrained, options: Mapping[str, Any]) -> Pretrained:
    """Return the model of a name, or one that is loaded, which takes no options.

    Raises:
        ArgumentError: for options without effect, or something that is no model.
        UnsupportedFeature: for a model without a language-model head.
    """
    if isinstance(pretrained, str | Path):
        return load(pretrained, head="causal_lm", **options)
    if not isinstance(pretrained, Pretrained):
        raise ArgumentError(
            "pretrained must be a name as in gptj.load, or a model of this package; found a "
            f"{type(pretrained).__name__}."
        )
    useless = [name for name, value in options.items() if value not in (None, "auto")]
    if useless:
        raise ArgumentError(
            f"The model is loaded already, so {choices(useless)} would have no effect. Load it so, "
            "or give its name instead."
        )
    if pretrained.head != "causal_lm":
        raise UnsupportedFeature(
            f"Evaluating needs a language-model head; this model's head is {pretrained.head!r}."
        )
    return pretrained


def harness_tokenizer(given: str | Path | GPTJTokenizer | None, model: Pretrained) -> GPTJTokenizer:
    """Return the tokenizer that is given, or the model's own."""
    if given is None:
        return find_tokenizer(model.source_folder)
    return load_tokenizer(given) if isinstance(given, str | Path) else given


def harness_max_length(given: int | None, model: Pretrained) -> int:
    """Return how many tokens are read at most, which the model can.

    Raises:
        ArgumentError: for what is no number from 1 to the model's context.
    """
    longest = model.config.n_positions
    if given is None:
        return longest
    if not is_count(given, 1) or given > longest:
        raise ArgumentError(f"max_length must be 1 to n_positions = {longest}; found {given!r}.")
    return given


def harness_batch_size(given: int | str, most: int | None) -> int:
    """Return the batch size as a number.

    Raises:
        ArgumentError: for one that a harness would find out, and for what is no number above 0.
    """
    if str(given).startswith("auto") or most is not None:
        raise ArgumentError(
            f"batch_size must be a number here; found {given!r} and max_batch_size {most!r}. "
            "Batch sizes are not found out: choose one that fits into memory, such as 8."
        )
    size = int(given) if str(given).isdecimal() else given
    if not isinstance(size, int) or not is_count(size, 1):
        raise ArgumentError(f"batch_size must be a number, 1 or more; found {given!r}.")
    return size
