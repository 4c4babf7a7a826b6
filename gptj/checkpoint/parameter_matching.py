"""Match the tensors of a file to the parameters of a head, and name every difference."""

import logging
import re
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from typing import Final

import numpy as np

from gptj.checkpoint.causal_masks import LEGACY_BUFFERS, prefix_masks
from gptj.checkpoint.config_from_tensors import is_tied
from gptj.checkpoint.differences import describe_differences, listed
from gptj.checkpoint.stored_dtypes import (
    advice_on,
    as_float32,
    fits_dtype,
    is_float64,
    needed_dtype,
)
from gptj.errors import ArgumentError, CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, HEADS, head_of
from gptj.spec.params import LM_HEAD, Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors

_BASE_NAME: Final = re.compile(r"(wte|h\.\d+|ln_f)\.")

STACKED: Final = re.compile(r"(^|\.)h\.(attn|mlp|ln_1)\.")
"""The start of names in a Flax tree that has one array for all blocks."""

_LEFT_OVER: Final = re.compile(
    r"(^|\.)(rotary_emb\..*|inv_freq|embed_positions|exp_avg(_sq)?|max_exp_avg_sq|momentum_buffer"
    r"|grad|step|(cos|sin)_cached)$"
)
"""Ends of names that are of no part of a model: positions that follow from the configuration, and
what optimizers keep."""

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class Match:
    """How the tensors of a file match the parameters of a head.

    Attributes:
        table: the parameters of the head.
        found: the file's tensors by their names in this head.
        new: values drawn for a head that the file lacks entirely.
        missing, unexpected, misshapen, mistyped: what does not fit; the last two say what was
            found and what is needed.
        left_out: tensors beside the model, which change nothing of what it computes.
        widened: tensors in float64, which are read as float32.
        buffers: causal masks of old checkpoints, which are not parameters.
    """

    table: dict[str, Parameter]
    found: dict[str, LazyTensor]
    new: dict[str, LazyTensor]
    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, str]
    mistyped: dict[str, str]
    left_out: list[str]
    widened: list[str]
    buffers: dict[str, LazyTensor]

    def notes(self, head: str) -> list[str]:
        """Return what was done without asking, in sentences."""
        found = [self._left_out_note(head)] if self.left_out else []
        if self.widened:
            found.append(
                f"{len(self.widened)} tensors in float64 are read as float32, from "
                f"{self.widened[0]} on"
            )
        return found

    def no_news(self, head: str) -> str | None:
        """Return the note that is none: other heads are cut from language models."""
        is_usual = all(name.startswith("lm_head.") for name in self.left_out)
        return self._left_out_note(head) if is_usual else None

    def _left_out_note(self, head: str) -> str:
        return f"the head {head!r} leaves out {listed(self.left_out)}"

    def differences(self) -> dict[str, list[str]]:
        """Return every mismatch by its kind."""
        return {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": list(self.misshapen.values()),
            "of another dtype": list(self.mistyped.values()),
        }


def match_parameters(
    config: GPTJConfig,
    head: str,
    tensors: Tensors,
    source: str,
    *,
    ignore_mismatched_sizes: bool = False,
    strict: bool = False,
    draw_head: bool = True,
) -> Tensors:
    """Return the parameters of a head by canonical name.

    The base model's names may have their prefix or not. Tensors beside the model, such as another
    head's, are left out, and a warning names them; when a head's own tensors are all missing, as in
    the checkpoint of a base model, they are drawn and a warning says so. Old buffers are dropped; a
    mask that is not causal causes a warning. float64 becomes float32.

    Args:
        ignore_mismatched_sizes: draw tensors of another shape, with a warning, instead of failing.
        strict: refuse tensors beside the model.
        draw_head: draw a head that is all missing; else it is refused.

    Raises:
        ArgumentError: for a head that is not to be drawn.
        CheckpointError: naming every tensor that is missing, unexpected or of another shape.
    """
    match = compare(config, head, tensors, source)
    if match.new and not draw_head:
        raise ArgumentError(
            f"{source} has no {head} head, and the outputs of one that is drawn mean nothing. "
            f"Give head={head_of(tensors)!r}, or fine-tune the model first."
        )
    if strict:
        match = replace(match, unexpected=match.unexpected + match.left_out)
    resized = list(match.misshapen) if ignore_mismatched_sizes else []
    misshapen = [text for name, text in match.misshapen.items() if name not in resized]
    differences = match.differences() | {"of another shape": misshapen}
    if any(differences.values()):
        raise _misfit(source, head, match, differences)
    for note in match.notes(head):
        log.log(INFO if note == match.no_news(head) else WARNING, "%s: %s.", source, note)
    if match.new:
        names = ", ".join(match.new)
        log.warning("%s has no %s head: drew new values for %s.", source, head, names)
    if resized:
        names = ", ".join(resized)
        log.warning("%s has other shapes: drew new values for %s.", source, names)
    _warn_of_masks(match.buffers, source)
    new = match.new | {name: _drawn(match.table[name], config) for name in resized}
    found = {name: as_float32(name, match.found[name]) for name in match.table if name not in new}
    return {name: new.get(name) or found[name] for name in match.table}


def _misfit(
    source: str, head: str, match: Match, differences: dict[str, list[str]]
) -> CheckpointError:
    """Return the error that names every difference, and what the checkpoint is if that is known."""
    adapter = [name for name in match.unexpected if ".lora_" in name]
    if adapter:
        return CheckpointError(
            f"{source} holds an adapter's tensors among the model's ({listed(adapter[:2])} and so "
            "on), without which it would be another model. Merge them with the program that wrote "
            "the file, or save model and adapter in folders of their own."
        )
    advice = advice_on(match.found[name].dtype for name in match.mistyped)
    hint = "Check that config.json belongs to these weights, and that they are GPT-J's."
    if set(match.unexpected) & set(match.left_out):
        hint = "strict=True refuses what is left out otherwise."
    if any(STACKED.search(name) for name in (*match.left_out, *match.unexpected)):
        hint = (
            "Its layers are stacked: save unstack_layers(params), of "
            "gptj.backends.flax.stacked_layers, or use model.save_pretrained, which does so."
        )
    if LM_HEAD in match.missing and "lm_head.bias" in match.found:
        hint += " If the head is tied to the word table, pass tie_word_embeddings=True."
    return CheckpointError(
        f"{source} does not fit a GPT-J with the head {head!r}. Tensors "
        f"{describe_differences(differences)}. {advice or hint}"
    )


def _warn_of_masks(buffers: Tensors, source: str) -> None:
    masks = prefix_masks(buffers)
    if masks:
        log.warning(
            "%s was trained with masks that are not causal (%s and %d more), like models that see "
            "their prompt both ways. Here the causal mask is applied: the text will be another.",
            source,
            masks[0],
            len(masks) - 1,
        )


def compare(config: GPTJConfig, head: str, tensors: Tensors, source: str) -> Match:
    """Return how tensors match the parameters of a head.

    Raises:
        CheckpointError: if a name occurs both with and without the base model's prefix.
    """
    _check_layers(config, tensors, source)
    table = parameter_table(config, head)
    buffers = {name: t for name, t in tensors.items() if LEGACY_BUFFERS.search(name)}
    others = {name: t for name, t in tensors.items() if name not in buffers}
    found = _with_canonical_names(others, HEADS[head].prefix, source)
    new = _new_head(config, table, found)
    outside = [name for name in found if name not in table]
    unexpected = [name for name in outside if _is_the_models(name, head)]
    tied = LM_HEAD if LM_HEAD in outside and head == "causal_lm" and is_tied(found) else None
    return Match(
        table=table,
        found=found,
        new=new,
        missing=[name for name in table if name not in found and name not in new],
        unexpected=unexpected,
        left_out=[name for name in outside if name not in unexpected and name != tied],
        widened=[name for name in table if name in found and is_float64(found[name])],
        misshapen={
            name: f"{name} is {tensor.shape}, needed is {table[name].shape}"
            for name, tensor in found.items()
            if name in table and tensor.shape != table[name].shape
        },
        mistyped={
            name: f"{name} is {tensor.dtype}{needed_dtype(table[name].dtype)}"
            for name, tensor in found.items()
            if name in table and not fits_dtype(tensor, table[name].dtype)
        },
        buffers=buffers,
    )


def _with_canonical_names(tensors: Tensors, prefix: str, source: str) -> dict[str, LazyTensor]:
    """Rename the base model's tensors as the head names them."""
    twice = [name for name in tensors if BASE_PREFIX + name in tensors]
    if twice:
        both = ", ".join(f"both {name} and {BASE_PREFIX}{name}" for name in sorted(twice))
        raise CheckpointError(f"{source} holds {both}: which of them is meant is not clear.")
    bare = {name: name.removeprefix(BASE_PREFIX) for name in tensors}
    return {
        prefix + bare[name] if _BASE_NAME.match(bare[name]) else name: tensor
        for name, tensor in tensors.items()
    }


def _new_head(
    config: GPTJConfig, table: dict[str, Parameter], found: Tensors
) -> dict[str, LazyTensor]:
    """Return drawn values for a head's own parameters if the checkpoint has none of them."""
    own = [name for name in table if not _BASE_NAME.match(name.removeprefix(BASE_PREFIX))]
    if any(name in found for name in own):
        return {}
    return {name: _drawn(table[name], config) for name in own}


def _drawn(parameter: Parameter, config: GPTJConfig) -> LazyTensor:
    dtype = np.dtype(parameter.dtype or np.float32)
    return LazyTensor(parameter.shape, dtype, lambda: initial_value(parameter, config))


def _is_the_models(name: str, head: str) -> bool:
    """Return whether a tensor without a place is part of what the model computes.

    Leaving it out would be another model: a bias that GPT-J does not have, a layer too many.
    """
    bare = name.removeprefix(BASE_PREFIX)
    if ".lora_" in name or ".base_layer." in name:
        return True
    if _BASE_NAME.match(bare):
        return _LEFT_OVER.search(bare) is None
    own = bare.partition(".")[0] in HEADS[head].modules
    return own and name != LM_HEAD and _LEFT_OVER.search(bare) is None


def _check_layers(config: GPTJConfig, tensors: Tensors, source: str) -> None:
    """Refuse more layers than there are tensors, before a table of them is made."""
    if config.n_layer > max(len(tensors), 1):
        raise CheckpointError(
            f"{source} does not fit n_layer = {config.n_layer}: it holds {len(tensors)} tensors in "
            "all. Give the configuration that belongs to these weights."
        )
