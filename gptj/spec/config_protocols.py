"""What programs that were written for other libraries' configurations ask of one.

They read it as a mapping, and they set attributes that no field has, which stay where they are set.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Self

from gptj.spec.config_names import ALIASES
from gptj.spec.families import MODEL_TYPE

NAMES: Final = ("name_or_path", "_name_or_path")
"""Where a model was loaded from: a file may have it, but loading says it anew."""

OTHER_NAMES: Final = frozenset((*ALIASES, "num_labels", "name_or_path"))
"""Names under which a field can be read besides its own."""


class ConfigProtocols(ABC):
    """The configuration of a model as a mapping, and what is known of its model besides.

    Attributes:
        model_type: the architecture, as a file names it.
        is_encoder_decoder: no GPT-J is.
        keys_to_ignore_at_inference: outputs that an evaluation does not collect.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    is_encoder_decoder: bool = False
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    _name_or_path: str = ""
    _attn_implementation: str | None = None  # set by the one backend that has several

    extra: dict[str, Any]
    return_dict: bool

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""

    @property
    def name_or_path(self) -> str:
        """The folder or the hub id that the model was loaded from, "" for a new one; not saved."""
        saved = (self.extra.get(name) for name in NAMES)
        return self._name_or_path or next((str(name) for name in saved if name), "")

    @name_or_path.setter
    def name_or_path(self, name: object) -> None:
        self._name_or_path = str(name)

    @property
    def use_return_dict(self) -> bool:
        """Another name of `return_dict`, to read."""
        return self.return_dict

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the fields, of unused keys and of attributes that were set."""
        own = (name for name in vars(self) if name != "extra")
        return iter(dict.fromkeys((*own, *self.extra, "model_type")))

    def __contains__(self, name: object) -> bool:
        """Return whether there is a field, an unused key or an attribute of that name."""
        return isinstance(name, str) and (name in iter(self) or name in OTHER_NAMES)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name that ``name in config`` knows, else `default`."""
        return getattr(self, name) if name in self else default

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Self:
        """Return the configuration: the whole model is its part for text, which these choose."""
        return self

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json`` as far as it differs from that of the 6B."""
        usual = type(self)().to_dict()
        return {
            name: value
            for name, value in self.to_dict().items()
            if name == "model_type" or value != usual.get(name)
        }
