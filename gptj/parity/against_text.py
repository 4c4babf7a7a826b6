"""The report on a function, file or engine as text for a terminal: the verdict first."""

from typing import Any, Final

from gptj.parity.text_report import place

Numbers = dict[str, Any]

PHASES: Final = ("prefill", "decode", "apart")
"""Errors of what was computed at once, token by token, and of the two from each other."""

SHOWN: Final = 5
"""How many explanations are listed."""


def verdict(content: Numbers) -> str:
    """Return in a sentence or two whether something is off, and what."""
    if content["passed"]:
        return (
            f"PASS: {content['against']} agrees with the float64 oracle, as closely as "
            f"{content['dtype']} allows."
        )
    return f"FAIL: {content['diagnosis']['sentence']}"


def render(content: Numbers) -> str:
    """Return the whole report."""
    lines = [verdict(content), "", f"{content['checkpoint']} against {content['against']}"]
    lines += ["", "error, relative to the RMS of the oracle, beside our own run in a dtype:"]
    for dtype, numbers in content["errors"].items():
        lines.append(
            f"  {dtype:9} {numbers['error']:9.1e} {numbers['own_error']:9.1e}   "
            f"ratio {numbers['ratio']:.3g}"
        )
    lines += [line for phase in PHASES for line in _phase(content, phase)]
    if tokens := content.get("next_token"):
        lines.append(
            f"  next token: KL {tokens['kl_max']:.1e} nats at most; the likeliest is the same at "
            f"{tokens['top1']:.1%}"
        )
    if text := content.get("text"):
        lines.append(f"  {text_in_words(text)}")
    if (first := first_off(content)) is not None:
        lines.append(f"  first off at {place(first['name'])}")
    lines += [f"  {what}: {why}" for what, why in content["notes"].items()]
    return "\n".join([*lines, *_ranking(content)])


def text_in_words(text: Numbers) -> str:
    """Return whether greedy text is the oracle's, and where it parts from it."""
    words = f"greedy text: {text['equal']} of {text['of']} sequences are the oracle's"
    if (first := text["first"]) is None:
        return words
    found, expected = (repr(first.get(f"{k}_text", first[k])) for k in ("found", "expected"))
    than = "" if first["found"] is not None else " the next best"
    return (
        f"{words}; token {first['token']} of sequence {first['row']} is {found} instead of "
        f"{expected}, whose logit is {first['margin']:.2g} above{than} in the oracle"
    )


def first_off(content: Numbers) -> Numbers | None:
    """Return the first module whose error is more than rounding, where something is off."""
    if content["passed"]:
        return None
    limit = 3.0
    return next((m for m in content["modules"] if not m["error"] <= limit * m["own_error"]), None)


def _phase(content: Numbers, phase: str) -> list[str]:
    return [f"  {phase}: {content[phase]['error']:.1e}"] if phase in content else []


def _ranking(content: Numbers) -> list[str]:
    if content["passed"] or not content["diagnosis"]["hypotheses"]:
        return []
    lines = ["", "share of the squared difference that a mistake explains:"]
    for found in content["diagnosis"]["hypotheses"][:SHOWN]:
        lines.append(f"  {found['explained']:8.2%}  {found['name']}")
    return lines
