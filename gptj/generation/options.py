"""What a caller may ask of generate(): its options, their files and where defaults come from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.contract.decoding import SeedWords
from gptj.errors import ArgumentError, ConfigError, choices, suggest
from gptj.generation.lacking_options import lacking
from gptj.spec.config import GPTJConfig
from gptj.system.atomic import folder_named, made_folder, write_text
from gptj.system.json_files import read_json

FILE_NAME: Final = "generation_config.json"

CONFIG: Final = "config.json"

TASK: Final = "text-generation"
"""The block of an old configuration's `task_specific_params` that holds options of generate()."""

TASKS: Final = f"{CONFIG}, task_specific_params, for text alone"
"""Where those are from."""


@dataclass
class GenerationConfig:
    """Options of generate(); each is also a keyword argument of it.

    Attributes:
        max_new_tokens: tokens to write; 20 if `max_length` is not given either.
        max_length: tokens in all, the prompt and its padding included.
        min_new_tokens: tokens before an end-of-text token may be written.
        min_length: tokens in all before that, the prompt included, its padding not; for those who
            do not give `min_new_tokens`.
        max_time: seconds after which no new step begins.
        stop_strings: texts that end a sequence as soon as it contains one of them.
        do_sample: draw from the distribution instead of taking the likeliest token.
        temperature: divides the logits; below 1 sharpens, above 1 flattens, and 0 is greedy.
        top_k: keep the k likeliest tokens only; 0 keeps all.
        top_p: keep the likeliest tokens whose probabilities just reach p.
        min_p: keep tokens at least p times as probable as the likeliest.
        typical_p: keep the tokens nearest to the expected information that together reach p.
        filter_order: ``"temperature_first"``, or ``"filters_first"`` as the first GPT-J did.
        seed: makes a draw repeatable, the same on every backend; None draws a fresh one.
        repetition_penalty: divides the positive logits of tokens that the text has, and multiplies
            the negative ones.
        no_repeat_ngram_size: no sequence of so many tokens is written twice.
        bad_words_ids: token sequences never written.
        suppress_tokens: tokens never written; begin_suppress_tokens: not as the first new one.
        sequence_bias: what is added to the logit that would complete a token sequence: a mapping
            from tuples of ids, or a list of pairs ``[ids, bias]``.
        forced_eos_token_id: the last token where the length runs out.
        renormalize_logits: make the scores log-probabilities again after all of the above.
        num_beams: texts that beam search follows at the same time.
        num_beam_groups, diversity_penalty: beams in groups, and what a token costs that an earlier
            group has chosen at the same step.
        length_penalty: the score of a beam is divided by its new tokens to this power.
        early_stopping: True ends at `num_beams` finished texts, False where a better one is
            unlikely, ``"never"`` where it is impossible.
        num_return_sequences: texts per prompt: samples, or the best beams.
        penalty_alpha: contrastive search among `top_k` candidates: the weight of the penalty for
            resembling the text so far.
        prompt_lookup_num_tokens: draft so many tokens from the text itself, checked in one run.
        max_matching_ngram_size: the longest end of the text that is looked up there.
        num_assistant_tokens: tokens that an assistant model drafts.
        eos_token_id: one or several ids that end a sequence.
        pad_token_id: fills a finished sequence.
        truncation: what to do with a text longer than the context: None refuses it, ``"left"``
            forgets the start of the prompt, ``"sliding_window"`` also continues beyond the context.
        use_cache: keep keys and values instead of computing them again for every token.
        return_dict_in_generate: return a `ModelOutput` that has, besides `sequences`, what
            `output_scores`, `output_logits`, `output_attentions`, `output_hidden_states` ask for.
        extra: keys of a file that are no options.
        origins: option -> its value in a file, and the file, which errors name.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int = 0
    min_length: int = 0
    max_time: float | None = None
    stop_strings: str | list[str] | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    filter_order: str = "temperature_first"
    seed: int | SeedWords | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: list[list[int]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    sequence_bias: Any = None
    forced_eos_token_id: int | list[int] | None = None
    renormalize_logits: bool = False
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    penalty_alpha: float | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int = 2
    num_assistant_tokens: int = 5
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    truncation: str | None = None
    use_cache: bool = True
    return_dict_in_generate: bool = False
    output_scores: bool = False
    output_logits: bool = False
    output_attentions: bool = False
    output_hidden_states: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, tuple[Any, str]] = field(default_factory=dict, compare=False, repr=False)

    def updated(self, /, **changes: Any) -> "GenerationConfig":
        """Return a copy with some options changed.

        Raises:
            ArgumentError: for an unknown option, with the nearest name.
        """
        check_option_names(changes)
        return replace(self, **changes)

    def changed(self) -> dict[str, Any]:
        """Return the options that are not default."""
        default = GenerationConfig()
        names = option_names()
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(default, n)}

    def to_dict(self) -> dict[str, Any]:
        """Return what a file holds: the options that are not default, and foreign keys."""
        content = {**self.extra, **self.changed()}
        if isinstance(self.sequence_bias, Mapping):  # JSON has no tuples for keys
            bias = self.sequence_bias.items()
            content["sequence_bias"] = [[list(ids), value] for ids, value in bias]
        return content

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the same as `to_dict`, under the name that other programs call."""
        return self.to_dict()

    def update(self, **changes: Any) -> dict[str, Any]:
        """Set options in place, as other programs do; return what is none."""
        known = option_names()
        for name in [name for name in known if name in changes]:
            setattr(self, name, changes.pop(name))
        return changes

    def to_json_string(self) -> str:
        """Return the text of a ``generation_config.json``."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``generation_config.json`` into `folder`, which is made if it is not there."""
        with made_folder(folder_named(folder)):
            write_text(Path(folder) / FILE_NAME, self.to_json_string())

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "GenerationConfig":
        """Build options from the content of a file; keys that gptj does not use are kept.

        A null means the same as no entry, as other libraries write it.
        """
        known = option_names()
        given = {name: value for name, value in content.items() if value is not None}
        options = {name: value for name, value in given.items() if name in known}
        extra = {name: value for name, value in content.items() if name not in known}
        return cls(**options, extra=extra)

    @classmethod
    def from_folder(cls, folder: Path, config: GPTJConfig) -> "GenerationConfig":
        """Read the options beside a checkpoint; the model's configuration fills in the rest.

        Without such a file they are those that the configuration holds, as of 2021 and 2022.

        Raises:
            ConfigError: if the file is not JSON.
        """
        path = folder / FILE_NAME
        if not lexists(path):
            return cls.from_model(config)
        own = cls.from_dict(read_json(path, ConfigError))
        return cls.from_model(config, own._read_from(path))

    @classmethod
    def from_model(
        cls, config: GPTJConfig, options: "GenerationConfig | None" = None
    ) -> "GenerationConfig":
        """Take the special tokens that `options` leaves open from a model's configuration.

        Without `options` all that the configuration says.
        """
        if options is None:
            options = cls.from_dict(config_options(config))._read_from(CONFIG)
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        open_names = [name for name in names if getattr(options, name) is None]
        return replace(options, **{name: getattr(config, name) for name in open_names})

    @classmethod
    def for_task(
        cls, config: GPTJConfig, options: "GenerationConfig", prompt_length: int
    ) -> "GenerationConfig":
        """Take what `options` leaves at its default from ``task_specific_params``.

        Configurations of 2021 hold there how text is generated from text: the 6B's says sampling,
        50 tokens in all. A length that the prompt itself exceeds cannot be meant.
        """
        block = task_options(config)
        most = block.get("max_length")
        if not isinstance(most, int) or most <= prompt_length:
            block.pop("max_length", None)
        own = cls.from_dict(block)._read_from(TASKS)
        origins = own.origins | options.origins
        return replace(own, **options.changed(), extra=options.extra, origins=origins)

    def _read_from(self, source: object) -> "GenerationConfig":
        """Return the same options, which know where they are from."""
        return replace(self, origins={n: (x, str(source)) for n, x in self.changed().items()})

    def file_of(self, name: str) -> str | None:
        """Return the file that an option is from; None if it was not read, or was set later."""
        # `in` compares by identity first: NaN differs from itself
        value, file = self.origins.get(name, (None, None))
        return file if getattr(self, name) in [value] else None


def config_options(config: GPTJConfig) -> dict[str, Any]:
    """Return the options of generate() that a configuration holds besides its own fields."""
    names = [*option_names(), *lacking(config.extra)]
    return {name: config.extra[name] for name in names if name in config.extra}


def task_options(config: GPTJConfig) -> dict[str, Any]:
    """Return what the old ``task_specific_params`` of a configuration say about text.

    Raises:
        ArgumentError: if that is no object.
    """
    tasks: Any = config.task_specific_params or {}
    block = (tasks.get(TASK) or {}) if isinstance(tasks, Mapping) else tasks
    if not isinstance(block, Mapping):
        raise ArgumentError(
            f"task_specific_params of the configuration must be an object that has one for {TASK!r}"
            f"; found {tasks!r}. Take it out."
        )
    return dict(block)


def prompt_prefix(config: GPTJConfig) -> str:
    """Return the text that a configuration puts before every prompt, which is not shown.

    Raises:
        ArgumentError: if that is no text.
    """
    prefix = task_options(config).get("prefix", config.extra.get("prefix")) or ""
    if not isinstance(prefix, str):
        raise ArgumentError(
            f"The configuration's prefix must be text; found {prefix!r}. Leave it out."
        )
    return prefix


def option_names() -> list[str]:
    """Return the names of all options."""
    return [spec.name for spec in fields(GenerationConfig) if spec.name not in ("extra", "origins")]


def check_option_names(names: Iterable[str]) -> None:
    """Refuse what is no option.

    Raises:
        ArgumentError: naming every unknown option, with the nearest name.
    """
    known = option_names()
    unknown = [name for name in names if name not in known]
    if unknown:
        hints = "".join(suggest(name, known) for name in unknown)
        raise ArgumentError(
            f"generate() has no option {choices(unknown)}.{hints} It has {', '.join(known)}."
        )
