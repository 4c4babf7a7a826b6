"""What a caller may ask of generate(), and the plan that a decoding loop follows."""

import json
import math
import numbers
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from gptj.errors import ArgumentError, ConfigError, SequenceTooLong, choices, suggest
from gptj.spec.config import GPTJConfig

DEFAULT_NEW_TOKENS: Final = 20

FILE_NAME: Final = "generation_config.json"


@dataclass
class GenerationConfig:
    """Options of generate(); each is also a keyword argument of it.

    Attributes:
        max_new_tokens: tokens to write; 20 if `max_length` is not given either.
        max_length: tokens in all, the prompt included.
        min_new_tokens: tokens before an end-of-text token may be written.
        do_sample: draw from the distribution instead of taking the likeliest token.
        temperature: divides the logits; below 1 sharpens, above 1 flattens.
        top_k: keep the k likeliest tokens only; 0 keeps all.
        top_p: keep the likeliest tokens whose probabilities just reach p.
        seed: makes a draw repeatable, the same on every backend; None draws a fresh one.
        eos_token_id: one or several ids that end a row.
        pad_token_id: fills a row that has ended.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def updated(self, **changes: Any) -> "GenerationConfig":
        """Return a copy with some options changed.

        Raises:
            ArgumentError: for an unknown option, with the nearest name.
        """
        known = option_names()
        unknown = [name for name in changes if name not in known]
        if unknown:
            hints = "".join(suggest(name, known) for name in unknown)
            raise ArgumentError(
                f"generate() has no option {choices(unknown)}.{hints} It has {', '.join(known)}."
            )
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return what a file holds: the options that are not default, and foreign keys."""
        default = GenerationConfig()
        names = option_names()
        changed = {n: getattr(self, n) for n in names if getattr(self, n) != getattr(default, n)}
        return {**self.extra, **changed}

    def to_json_string(self) -> str:
        """Return the text of a ``generation_config.json``."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``generation_config.json`` into `folder`, which is made if it is not there."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / FILE_NAME).write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "GenerationConfig":
        """Build options from the content of a file; keys that gptj does not use are kept."""
        known = option_names()
        options = {name: value for name, value in content.items() if name in known}
        extra = {name: value for name, value in content.items() if name not in known}
        return cls(**options, extra=extra)

    @classmethod
    def from_folder(cls, folder: Path, config: GPTJConfig) -> "GenerationConfig":
        """Read the options beside a checkpoint; the model's configuration fills in the rest.

        Raises:
            ConfigError: if the file is not JSON.
        """
        path = folder / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not valid JSON: {error}.") from error
        return cls.from_model(config, cls.from_dict(content))

    @classmethod
    def from_model(
        cls, config: GPTJConfig, options: "GenerationConfig | None" = None
    ) -> "GenerationConfig":
        """Take the special tokens that `options` leaves open from a model's configuration."""
        options = options or cls()
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        open_names = [name for name in names if getattr(options, name) is None]
        return replace(options, **{name: getattr(config, name) for name in open_names})


def option_names() -> list[str]:
    """Return the names of all options."""
    return [spec.name for spec in fields(GenerationConfig) if spec.name != "extra"]


@dataclass(frozen=True)
class DecodePlan:
    """What a decoding loop needs to know, checked and complete.

    Attributes:
        max_new_tokens: steps at most.
        min_new_tokens: steps during which no end-of-text token may be chosen.
        eos_token_ids: the tokens that end a row.
        pad_token_id: what follows the end of a row.
    """

    max_new_tokens: int
    min_new_tokens: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int


def make_plan(options: GenerationConfig, prompt_length: int, config: GPTJConfig) -> DecodePlan:
    """Check the options against a model and a prompt.

    Raises:
        ArgumentError: for an impossible value.
        SequenceTooLong: if prompt and new tokens exceed the context.
    """
    _check_values(options, config.vocab_size)
    eos = options.eos_token_id
    listed = () if eos is None else eos if isinstance(eos, (list, tuple)) else (eos,)
    eos_ids = tuple(int(token) for token in listed)
    pad = options.pad_token_id
    return DecodePlan(
        max_new_tokens=_new_tokens(options, prompt_length, config.n_positions),
        min_new_tokens=int(options.min_new_tokens),
        do_sample=options.do_sample,
        temperature=float(options.temperature),
        top_k=int(options.top_k) or config.vocab_size,
        top_p=float(options.top_p),
        seed=secrets.randbits(64) if options.seed is None else int(options.seed),
        eos_token_ids=eos_ids,
        pad_token_id=int(pad) if pad is not None else eos_ids[0] if eos_ids else 0,
    )


def _new_tokens(options: GenerationConfig, prompt_length: int, limit: int) -> int:
    """Return how many tokens to write at most."""
    room = limit - prompt_length
    if options.max_new_tokens is not None:
        count = options.max_new_tokens
    elif options.max_length is not None:
        count = options.max_length - prompt_length
        if count < 1:
            raise ArgumentError(
                f"The prompt has {prompt_length} tokens, which leaves nothing to write within "
                f"max_length = {options.max_length}. Raise it, or use max_new_tokens."
            )
    else:
        count = max(min(DEFAULT_NEW_TOKENS, room), 1)
    if count > room:
        raise SequenceTooLong(
            f"A prompt of {prompt_length} tokens and {count} new ones exceed the model's "
            f"n_positions = {limit}. Shorten the prompt, or ask for at most {max(room, 0)}."
        )
    return int(count)


def _check_values(options: GenerationConfig, vocab_size: int) -> None:
    """Refuse values that mean nothing, all of them in one message."""

    def is_token(value: Any) -> bool:
        return _is_count(value, 0) and value < vocab_size

    eos = options.eos_token_id
    eos_ids = eos if isinstance(eos, (list, tuple)) else [eos]
    new, length = options.max_new_tokens, options.max_length
    token = f"a token id from 0 to {vocab_size - 1}"
    rules = {
        "max_new_tokens": (new is None or _is_count(new, 1), "a positive integer"),
        "max_length": (length is None or _is_count(length, 1), "a positive integer"),
        "min_new_tokens": (_is_count(options.min_new_tokens, 0), "an integer from 0"),
        "temperature": (
            _is_number(options.temperature) and 0 < options.temperature < math.inf,
            "a finite number above 0 (for greedy text leave do_sample off)",
        ),
        "top_k": (_is_count(options.top_k, 0), "an integer from 0 (0 keeps all tokens)"),
        "top_p": (_is_number(options.top_p) and 0 < options.top_p <= 1, "in (0, 1]"),
        "seed": (options.seed is None or _is_integer(options.seed), "an integer or None"),
        "eos_token_id": (eos is None or all(map(is_token, eos_ids)), f"{token}, or several"),
        "pad_token_id": (options.pad_token_id is None or is_token(options.pad_token_id), token),
    }
    wrong = [
        f"{name} must be {accepted}; found {getattr(options, name)!r}"
        for name, (holds, accepted) in rules.items()
        if not holds
    ]
    if wrong:
        raise ArgumentError("These generation options make no sense: " + "; ".join(wrong) + ".")


def _is_count(value: Any, least: int) -> bool:
    return _is_integer(value) and value >= least


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
