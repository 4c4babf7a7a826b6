"""The content of a ``config.json`` as people write it -> the values of a `GPTJConfig`.

Published files have nulls, both generations of names, and numbers as text. What is clear is taken,
and a sentence says so; what is not is an error with the key's name.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from gptj.errors import ConfigError, brief
from gptj.spec.config_names import ALIASES

MAY_BE_NONE: Final = frozenset(
    (
        "rotary_dim n_inner bos_token_id eos_token_id pad_token_id problem_type dtype "
        "architectures task_specific_params quantization_config"
    ).split()
)
"""Fields in which null is a value; elsewhere it stands for the default."""

INTEGERS: Final = frozenset(
    "vocab_size n_positions n_embd n_layer n_head rotary_dim n_inner num_labels".split()
)
TOKENS: Final = frozenset(("bos_token_id", "eos_token_id", "pad_token_id"))
FLOATS: Final = frozenset(
    "resid_pdrop embd_pdrop attn_pdrop layer_norm_epsilon initializer_range".split()
)
FLAGS: Final = frozenset(
    ("use_cache tie_word_embeddings return_dict output_hidden_states output_attentions").split()
)

UNSEEN: Final = ("n_head",)
"""Fields that decide the numbers, and that no shape of a tensor tells."""

MOST_DIGITS: Final = 20

_INTEGER: Final = re.compile(rf"[+-]?\d{{1,{MOST_DIGITS}}}")
_FLOAT: Final = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,4})?")
_WORDS: Final = {"true": True, "false": False}


def plain_content(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the content with the fields' own names, types and no needless nulls, and what was
    done to it, in sentences.

    Raises:
        ConfigError: for a value that is clear in no way, or two names of one field that differ.
    """
    notes: list[str] = []
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in content.items():
        name = ALIASES.get(key, key)
        if value is None and name not in MAY_BE_NONE and name in _READERS:
            if name in UNSEEN:
                notes.append(f"config.json has {key} = null, taken as the default: is that right?")
            continue
        if name in _READERS:
            value = _READERS[name](key, value, notes)
        _settle(name, key, value, values, written)
    return _with_agreeing_labels(values, notes), notes


def _settle(
    name: str, key: str, value: Any, values: dict[str, Any], written: dict[str, str]
) -> None:
    """Set a field, unless another of its names has set it; null gives way to anything."""
    if name in written and values[name] is not None:
        if value is None or value == values[name]:
            return
        raise ConfigError(
            f"config.json has {written[name]} = {brief(values[name])} and {key} = {brief(value)}, "
            "two names of one field: remove one of them."
        )
    values[name], written[name] = value, key


def _integer(key: str, value: Any, notes: list[str]) -> Any:
    """Return an integer; the checks of the values see anything else unchanged."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return _taken(key, value, int(value), notes)
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER.fullmatch(text):
            return _taken(key, value, int(text), notes)
        if _FLOAT.fullmatch(text) and float(text).is_integer():
            return _taken(key, value, int(float(text)), notes)
    if value is not None and (type(value) is not int or abs(value) >= 2**63):
        raise ConfigError(
            f"{key} must be an integer below 2**63, found {brief(value)} in config.json."
        )
    return value


def _float(key: str, value: Any, notes: list[str]) -> Any:
    if isinstance(value, str) and _FLOAT.fullmatch(value.strip()):
        return _taken(key, value, float(value), notes)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key} must be a number, found {brief(value)} in config.json.")
    return value if isinstance(value, float) or abs(value) < 2**53 else float("inf")


def _flag(key: str, value: Any, notes: list[str]) -> Any:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _taken(key, value, _WORDS[value.strip().lower()], notes)
    if isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1):
        return _taken(key, value, bool(value), notes)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, found {brief(value)} in config.json.")
    return value


def _token(key: str, value: Any, notes: list[str]) -> Any:
    if isinstance(value, list):
        return [_integer(key, one, notes) for one in value]
    return _integer(key, value, notes)


def _text(key: str, value: Any, notes: list[str]) -> Any:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be text, found {brief(value)} in config.json.")
    return value


def _dtype(key: str, value: Any, notes: list[str]) -> Any:
    name = _text(key, value, notes)
    plain = name.removeprefix("torch.") if name else None
    if plain in ("float64", "double"):
        notes.append(
            f"config.json has {key} = {name}, which no backend computes in: float32 is used"
        )
        return "float32"
    return None if plain == "auto" else plain


def _table(key: str, value: Any, notes: list[str]) -> Any:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object, found {brief(value)} in config.json.")
    return value


def _labels(key: str, value: Any, notes: list[str]) -> dict[int, str]:
    """Return ``id2label``: numbers, which JSON writes as text, to names."""
    named = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(named, dict):
        raise ConfigError(f"{key} must be an object, found {brief(value)} in config.json.")
    quiet: list[str] = []
    found = {
        _integer(f"each key of {key}", index, quiet): str(name) for index, name in named.items()
    }
    if sorted(found) != list(range(len(found))) or not found:
        raise ConfigError(
            f"{key} must number its labels 0, 1, 2 and so on, found {brief(list(named))} in "
            "config.json."
        )
    return found


def _ids(key: str, value: Any, notes: list[str]) -> dict[str, int]:
    """Return ``label2id``."""
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object, found {brief(value)} in config.json.")
    quiet: list[str] = []
    return {
        str(name): _integer(f"each value of {key}", index, quiet) for name, index in value.items()
    }


def _taken(key: str, found: object, taken: object, notes: list[str]) -> Any:
    notes.append(f"config.json has {key} = {brief(found)}, which is taken as {taken!r}")
    return taken


def _with_agreeing_labels(values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Let ``id2label`` decide where number, names and ids of labels differ."""
    names, ids, count = (values.get(key) for key in ("id2label", "label2id", "num_labels"))
    if names is None and ids is not None:
        names = {index: name for name, index in ids.items()}
    if names is None:
        return values
    if count is not None and count != len(names):
        notes.append(
            f"config.json has num_labels = {count}, but names {len(names)} labels, which are used"
        )
    if ids is not None and any(ids.get(name, index) != index for index, name in names.items()):
        notes.append("label2id of config.json is not the inverse of id2label, which is used")
        values = {key: value for key, value in values.items() if key != "label2id"}
    return {key: value for key, value in values.items() if key != "num_labels"}


_READERS: Final[dict[str, Callable[[str, Any, list[str]], Any]]] = {
    **dict.fromkeys(INTEGERS, _integer),
    **dict.fromkeys(TOKENS, _token),
    **dict.fromkeys(FLOATS, _float),
    **dict.fromkeys(FLAGS, _flag),
    **dict.fromkeys(("activation_function", "problem_type"), _text),
    **dict.fromkeys(("task_specific_params", "quantization_config"), _table),
    "dtype": _dtype,
    "id2label": _labels,
    "label2id": _ids,
    "architectures": lambda key, value, notes: value if isinstance(value, list) else None,
}
