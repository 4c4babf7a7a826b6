"""The report on what is not a backend: a checkpoint's oracle beside a function, file or engine."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from gptj import hub
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.diagnosis.computation import Computation, right_computation
from gptj.diagnosis.cost import computation_weights, cost_in_words
from gptj.diagnosis.diagnose import Diagnosis, Judgement, diagnose
from gptj.diagnosis.evidence import LOGITS, Evidence, recorded
from gptj.diagnosis.search import LARGE, effort_for
from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.parity import against_page, against_text, compare
from gptj.parity.engine_text import compare_engine_text, decoding_in_words
from gptj.parity.file_target import KINDS, file_target
from gptj.parity.function_target import find_function, function_target
from gptj.parity.greedy import compare_texts
from gptj.parity.hashes import file_hashes
from gptj.parity.target import Target
from gptj.parity.tolerances import rms
from gptj.parity.url_target import SCHEMES, url_target
from gptj.parity.written_report import Report
from gptj.system.machine import own_versions
from gptj.tokenizer.lookup import known_tokenizer

log: Final = logging.getLogger(__name__)

HEAD: Final = "causal_lm"


class AgainstReport(Report):
    """All numbers of a comparison, with ``diagnosis``, which is None where nothing is off."""

    words: ClassVar = against_text
    page: ClassVar = against_page


def compare_against(
    checkpoint: str | Path,
    against: str | Path | Callable[[npt.NDArray[Any]], Any],
    *,
    dtype: str | None = None,
) -> AgainstReport:
    """Compare the oracle of a checkpoint with what somebody else computes, and name the mistake.

    Args:
        checkpoint: a causal language model, as for `gptj.load`.
        against: a function from ids (B, T), int64, to logits (B, T, V), or its name,
            ``package.module:function``; the URL of an engine's ``/v1/completions``; or a file of
            arrays, .npz or .safetensors.
        dtype: what it computes in; if None, the narrowest whose rounding explains its error.

    Raises:
        ArgumentError: for what cannot be compared, with the reason.
        CheckpointError: for a checkpoint that is not there or is no causal language model.
    """
    opened = open_checkpoint(hub.locate(checkpoint))
    config = GPTJConfig.from_dict(opened.config(HEAD))
    tensors = match_parameters(config, HEAD, opened.tensors, str(checkpoint))
    target = find_target(config, against)
    weights = computation_weights(config, tensors)
    is_long = effort_for(config) is LARGE
    log.log(
        logging.WARNING if is_long else logging.INFO, cost_in_words(config, target.inputs.ids.size)
    )
    right = right_computation(config, weights, target.inputs)
    evidence = target.evidence()
    judgement = diagnose(right, evidence, dtype)
    text = {} if is_long else _text(right, target, opened.folder)
    diagnosis = _diagnosis(judgement, text)
    return AgainstReport(
        {
            "passed": diagnosis is None,
            "checkpoint": str(checkpoint),
            "against": target.name,
            "head": HEAD,
            "config": config.to_dict(),
            "files": file_hashes(opened.folder),
            "versions": own_versions() | {"numpy": np.__version__},
            "inputs": dict(zip(("rows", "length"), target.inputs.ids.shape, strict=True)),
            "notes": _notes(target, is_long),
            **_numbers(judgement),
            "diagnosis": diagnosis,
            **_by_phase(right, evidence, target),
            **text,
        }
    )


def find_target(
    config: GPTJConfig, against: str | Path | Callable[[npt.NDArray[Any]], Any]
) -> Target:
    """Return what is compared.

    Raises:
        ArgumentError: for what is none of these.
    """
    if callable(against):
        return function_target(config, against, getattr(against, "__qualname__", repr(against)))
    name = str(against)
    if name.startswith(SCHEMES):
        return url_target(config, name)
    if Path(name).suffix in KINDS:
        return file_target(config, Path(name))
    if ":" in name and "/" not in name:
        return function_target(config, find_function(name), name)
    raise ArgumentError(
        f"Nothing can be compared with {name!r}: give a URL, a file (.npz or .safetensors), or "
        "a function, package.module:function."
    )


def _diagnosis(judgement: Judgement, text: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is wrong: with what was computed at once, or else with what was decoded."""
    if judgement.diagnosis is not None:
        return judgement.diagnosis.to_dict()
    words = decoding_in_words(text, judgement.level.own_error) if "apart" in text else None
    return None if words is None else Diagnosis(words, ()).to_dict()


def _numbers(judgement: Judgement) -> dict[str, Any]:
    return {
        "dtype": judgement.dtype,
        "errors": {
            level.dtype: {
                "error": level.error,
                "own_error": level.own_error,
                "ratio": level.ratio,
            }
            for level in judgement.levels
        },
        "modules": [
            {"name": name, "error": error, "own_error": own}
            for name, (error, own) in judgement.level.by_module.items()
        ],
    }


def _notes(target: Target, is_long: bool) -> dict[str, str]:
    """Return what was not compared, and why."""
    notes = dict(target.notes)
    if is_long and (target.engine or target.logits_of):
        notes["text"] = "not compared at this size, at which the oracle needs minutes for a token"
    return notes


def _text(right: Computation, target: Target, folder: Path) -> dict[str, Any]:
    """Return the greedy text beside the oracle's, of what can be asked for some."""
    tokenizer = known_tokenizer(folder, right.config)
    if target.engine is not None:
        return compare_engine_text(right, target.engine, target.inputs.ids, tokenizer)
    if target.logits_of is None:
        return {}
    return {"text": compare_texts(right, target.logits_of, target.inputs.ids, tokenizer)}


def _by_phase(right: Computation, evidence: Evidence, target: Target) -> dict[str, Any]:
    """Return next tokens, and prefill and decode apart where it is known where the prompt ends."""
    if LOGITS not in evidence.arrays or target.view is not None:
        return {}
    every = Evidence(target.inputs, {LOGITS: target.arrays[LOGITS]})
    expected = recorded(right, every).arrays[LOGITS]
    found, attended = target.arrays[LOGITS].astype(np.float64), target.inputs.attended()
    numbers: dict[str, Any] = {
        "next_token": compare.compare_next_tokens(found[attended], expected[attended])
    }
    if target.prompt_length is not None:
        late = np.arange(attended.shape[1]) >= target.prompt_length
        for phase, places in (("prefill", attended & ~late), ("decode", attended & late)):
            if places.any():
                gap = found[places] - expected[places]
                numbers[phase] = {"error": rms(gap) / rms(expected[places])}
    return numbers
