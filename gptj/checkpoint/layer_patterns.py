"""PEFT's patterns of ranks and alphas: regular expressions for the ends of layers' names.

PEFT takes the first key of which ``(.*\\.)?(key)$`` matches a layer's name. A stranger's expression
may take for ever, so only those are run whose work is bounded: no repeated groups, and few
repetitions.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gptj.errors import brief

LONGEST: Final = 200
"""Characters of an expression."""

MOST_REPEATS: Final = 3
MOST_EXPRESSIONS: Final = 64
"""What is run takes well under a second per expression, whatever it is."""

_NAME: Final = re.compile(r"[\w.]+")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_REPEAT: Final = re.compile(r"[*+{]")
_REFUSED: Final = re.compile(r"\(\?(?!:)|\\[1-9AbBZ]|\?\?|[*+}?][+]")


def by_layer(pattern: object, modules: Iterable[str], prefix: str) -> dict[str, Any]:
    """Return ranks or alphas by the names of layers, or the ends of their names.

    Args:
        pattern: what a file has under ``rank_pattern`` or ``alpha_pattern``.
        modules: the names of all layers, as the base model has them.
        prefix: what PEFT may put before them.

    Raises:
        ValueError: for what is no pattern, or is an expression that is not run.
    """
    if pattern is None:
        return {}
    if not isinstance(pattern, Mapping):
        raise ValueError(f"{brief(pattern)} stands where a pattern should")
    names = list(modules)
    found: dict[str, Any] = {}
    expressions = 0
    for key, value in pattern.items():
        plain = key.replace("\\.", ".").removeprefix(prefix)
        if _NAME.fullmatch(plain):
            found.setdefault(plain, value)
            continue
        expressions += 1
        if expressions > MOST_EXPRESSIONS:
            raise ValueError(f"it has more than {MOST_EXPRESSIONS} expressions in a pattern")
        matches = _expression(key)
        for name in filter(matches.match, names):
            if not any(_ends(name, earlier) for earlier in found):
                found[name] = value
    return found


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _expression(key: str) -> re.Pattern[str]:
    """Return an expression as PEFT makes it of a key, if its work is bounded."""
    counted = re.sub(r"\\.|\[[^]]*\]", "x", key)  # escapes and classes repeat nothing
    is_bounded = (
        len(key) <= LONGEST
        and not _REFUSED.search(key)
        and not _REPEATED_GROUP.search(counted)
        and len(_REPEAT.findall(counted)) <= MOST_REPEATS
    )
    if not is_bounded:
        raise ValueError(
            f"the pattern {brief(key)} is not the name of a layer, such as 'h.0.mlp.fc_in', and as "
            f"an expression it is not run: groups may not repeat, and {MOST_REPEATS} repetitions "
            "are allowed"
        )
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern {brief(key)} is no regular expression: {error}") from error
