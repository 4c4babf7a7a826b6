"""GPTJConfig: every field of a published ``config.json``, with the familiar aliases."""

import json
import logging
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self, Unpack

from gptj.errors import ConfigError, brief, suggest
from gptj.spec.config_checks import MOST_LABELS, config_problems, misleading_keys
from gptj.spec.config_content import plain_content
from gptj.spec.config_fields import ConfigArguments
from gptj.spec.config_names import ALIASES, INERT, refuse_unknown
from gptj.spec.config_protocols import NAMES, ConfigProtocols
from gptj.spec.families import MODEL_TYPE, check_family
from gptj.spec.number_checks import is_positive_int
from gptj.spec.quantization import METHODS
from gptj.spec.types import DType
from gptj.spec.vocabulary import EOS_TOKEN_ID, VOCAB_SIZE
from gptj.system.atomic import folder_named, made_folder, write_text
from gptj.system.json_files import read_json

DTYPES: Final = ("float32", "bfloat16", "float16")

LABEL_FIELDS: Final = frozenset(("id2label", "label2id", "num_labels"))
"""Fields that say the same in three ways: setting one of them replaces all."""

log = logging.getLogger("gptj")

_GENERIC: Final = {"generic": True}
"""Marks a field that is saved only when it differs from its default."""


def _default_labels() -> dict[int, str]:
    return _labels(2)


@dataclass(init=False, eq=False)
class GPTJConfig(ConfigProtocols):
    """Sizes and options of one GPT-J; ``GPTJConfig()`` is the 6B.

    Every field is an argument and an attribute that may be set later, and so are the aliases in
    `ALIASES` (``hidden_size`` and so on). ``n_inner=None`` means ``4 * n_embd``, and
    ``rotary_dim=None`` rotates the whole head. Unused keys of a file are kept in `extra`,
    and `save_pretrained` writes them back.

    Raises:
        ConfigError: for an unknown argument (the nearest name is suggested) or an impossible value.
    """

    vocab_size: int = VOCAB_SIZE
    n_positions: int = 2_048
    n_embd: int = 4_096
    n_layer: int = 28
    n_head: int = 16
    rotary_dim: int | None = 64
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attn_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = EOS_TOKEN_ID
    eos_token_id: int | list[int] | None = EOS_TOKEN_ID
    tie_word_embeddings: bool = False

    pad_token_id: int | None = field(default=None, metadata=_GENERIC)
    return_dict: bool = field(default=True, metadata=_GENERIC)
    output_hidden_states: bool = field(default=False, metadata=_GENERIC)
    output_attentions: bool = field(default=False, metadata=_GENERIC)
    id2label: dict[int, str] = field(default_factory=_default_labels, metadata=_GENERIC)
    label2id: dict[str, int] = field(
        default_factory=lambda: _inverse(_labels(2)), metadata=_GENERIC
    )
    problem_type: str | None = field(default=None, metadata=_GENERIC)
    dtype: str | None = field(default=None, metadata=_GENERIC)
    architectures: list[str] | None = field(default=None, metadata=_GENERIC)
    task_specific_params: dict[str, Any] | None = field(default=None, metadata=_GENERIC)
    quantization_config: dict[str, Any] | None = field(default=None, metadata=_GENERIC)
    extra: dict[str, Any] = field(default_factory=dict, metadata=_GENERIC)

    def __init__(self, **values: Unpack[ConfigArguments]) -> None:
        """Set the fields from keyword arguments, or to their defaults."""
        given: dict[str, Any] = {ALIASES.get(name, name): x for name, x in values.items()}
        num_labels = given.pop("num_labels", None)
        inert = {name: given.pop(name) for name in INERT & given.keys()}
        refuse_unknown(given, argument_names())
        given["extra"] = {**given.get("extra", {}), **inert}
        for spec in fields(self):
            setattr(self, spec.name, given.get(spec.name, _default(spec)))
        self.dtype = dtype_name(self.dtype)
        self._set_labels(num_labels, "id2label" in given, "label2id" in given)
        self.validate()

    def _set_labels(self, num_labels: int | None, has_id2label: bool, has_label2id: bool) -> None:
        """Complete id2label, label2id and num_labels from those that were given."""
        self.id2label = {int(index): str(label) for index, label in self.id2label.items()}
        if has_label2id and not has_id2label:
            self.id2label = {index: label for label, index in self.label2id.items()}
        if num_labels is not None and num_labels != len(self.id2label):
            if has_id2label or has_label2id:
                given = "id2label" if has_id2label else "label2id"
                raise ConfigError(
                    f"num_labels is {num_labels}, but {given} names {len(self.id2label)} labels: "
                    "give only one of them, or make them agree."
                )
            self.num_labels = num_labels
        elif not has_label2id:
            self.label2id = _inverse(self.id2label)

    def __eq__(self, other: object) -> bool:
        """Compare what is saved: not where it came from, nor what programs have set besides."""
        return isinstance(other, GPTJConfig) and self.to_dict() == other.to_dict()

    def __getattr__(self, name: str) -> Any:
        """Return an unused key of the file as an attribute."""
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"GPTJConfig has no field {name!r}.{suggest(name, self.__dict__)}")

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field; an unused key goes to `extra` too, and so is saved, unless it is a name."""
        kept = name in INERT or name in self.__dict__.get("extra", {})
        if kept and name not in NAMES:
            self.extra[name] = value
        super().__setattr__(name, value)

    # -- derived sizes and aliases -----------------------------------------------------------------

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def inner_dim(self) -> int:
        """Width of the MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def rotated_dim(self) -> int:
        """Number of dimensions of a head that are rotated."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def is_quantized(self) -> bool:
        """Whether the weights of linear layers are quantized; see ``gptj.spec.quantization``."""
        return self.quantization_config is not None

    @property
    def quantization(self) -> str | None:
        """The quantization of the weights, ``"int8"`` or ``"int4"``; None without."""
        if self.quantization_config is None:
            return None
        return METHODS[self.quantization_config["quant_method"]].name

    @property
    def num_labels(self) -> int:
        """Number of labels of the classification head; setting it names them LABEL_0 and so on."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if not is_positive_int(count) or count > MOST_LABELS:
            raise ConfigError(
                f"num_labels must be a positive integer up to {MOST_LABELS}, found {brief(count)}."
            )
        self.id2label = _labels(count)
        self.label2id = _inverse(self.id2label)

    # -- validation --------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check that the values make a valid model.

        Raises:
            ConfigError: naming every bad value.
        """
        problems = config_problems(self)
        if problems:
            raise ConfigError("This GPT-J configuration cannot work: " + "; ".join(problems) + ".")

    # -- files -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``: GPT-J's fields, and others if not default."""
        content: dict[str, Any] = {"model_type": MODEL_TYPE, **self.extra}
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.name == "extra" or (spec.metadata and value == _default(spec)):
                continue
            content[spec.name] = value
        if "dtype" in content:  # every release of transformers reads this name
            content["torch_dtype"] = content.pop("dtype")
        return content

    def to_json_string(self) -> str:
        """Return the text of a ``config.json``: sorted keys, two spaces, a final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, path: str | Path) -> None:
        """Write the configuration to `path`."""
        write_text(Path(path), self.to_json_string())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` into `folder`, which is created if it does not exist."""
        with made_folder(folder_named(folder)):
            self.to_json_file(Path(folder) / "config.json")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], **changes: Any) -> Self:
        """Build a configuration from the content of a file; `changes` override it.

        Null stands for the default, unless it is a value of the field. A number or a flag in text
        is taken, and a warning says so.

        Raises:
            ConfigError: if the content belongs to another architecture, or a value is impossible.
        """
        check_family(content)
        changes = {ALIASES.get(name, name): value for name, value in changes.items()}
        given = {k: v for k, v in content.items() if ALIASES.get(k, k) not in changes}
        if changes.keys() & LABEL_FIELDS:
            given = {k: v for k, v in given.items() if k not in LABEL_FIELDS}
        values, notes = plain_content(given)
        for note in notes:
            log.warning("%s.", note)
        known = argument_names()
        extra = {k: v for k, v in values.items() if k not in known and k != "model_type"}
        values = {name: value for name, value in values.items() if name in known}
        return cls(**{**values, "extra": extra, **changes})

    @classmethod
    def from_json_file(cls, path: str | Path, **changes: Any) -> Self:
        """Read a ``config.json``; `changes` override it.

        Raises:
            ConfigError: if the file is not the JSON of a GPT-J configuration.
            CheckpointError: if there is none.
        """
        config = cls.from_dict(read_json(Path(path), ConfigError), **changes)
        for note in misleading_keys(config):
            log.warning("%s.", note)
        return config


def _alias(target: str) -> property:
    return property(
        lambda self: getattr(self, target),
        lambda self, value: setattr(self, target, value),
        doc=f"Another name of `{target}`.",
    )


for _name, _target in ALIASES.items():
    setattr(GPTJConfig, _name, _alias(_target))


def argument_names() -> set[str]:
    """Return every name under which a file or an argument may set a field."""
    own = {spec.name for spec in fields(GPTJConfig)} - {"extra"}
    return own | {*ALIASES, "num_labels"}


def dtype_name(dtype: DType | None) -> str | None:
    """Return the plain name of a dtype: ``torch.bfloat16``, ``jnp.bfloat16`` -> ``"bfloat16"``."""
    if dtype is None or isinstance(dtype, str):
        return dtype if dtype is None else dtype.removeprefix("torch.")
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    return str(name).removeprefix("torch.")


def _default(spec: "Field[Any]") -> object:
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default


def _labels(count: int) -> dict[int, str]:
    return {index: f"LABEL_{index}" for index in range(count)}


def _inverse(id2label: Mapping[int, str]) -> dict[str, int]:
    return {label: index for index, label in id2label.items()}
