"""What programs that were written for other libraries' models ask of one, whatever the backend."""

from collections.abc import Iterable
from typing import Any, ClassVar

from gptj.hub.upload import Uploads
from gptj.spec.heads import BASE_PREFIX


class ToolProtocols(Uploads):
    """Answers to other programs; models of all backends inherit it.

    Attributes:
        name_or_path: the folder or the hub id that the model was loaded from; "" for a new one.
        base_model_prefix: the attribute that holds the model without its head.
        main_input_name: the first argument of a call.
    """

    head: ClassVar[str]
    name_or_path: str = ""
    base_model_prefix: ClassVar[str] = BASE_PREFIX.removesuffix(".")
    main_input_name: ClassVar[str] = "input_ids"

    @classmethod
    def can_generate(cls) -> bool:
        """Return whether the head is the language model's."""
        return cls.head == "causal_lm"

    def prepare_inputs_for_generation(
        self, input_ids: Any, past_key_values: Any = None, attention_mask: Any = None, **inputs: Any
    ) -> dict[str, Any]:
        """Return the inputs of the next call while generating; `generate` has its own way."""
        return {
            "input_ids": input_ids,
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            **inputs,
        }

    def add_model_tags(self, tags: str | Iterable[str]) -> None:
        """Add words for the model's page on the hub."""
        new = [tags] if isinstance(tags, str) else list(tags)
        self.model_tags = list(dict.fromkeys((*(self.model_tags or ()), *new)))
