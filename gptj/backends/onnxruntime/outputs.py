"""Which outputs of a graph a call asks for, and what they make of a model's output."""

from collections.abc import Mapping
from typing import Any, Final

from gptj.backends.onnxruntime.interface import cache_names
from gptj.model.array_cache import Array
from gptj.model.array_inputs import Flags
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.module_names import module_names

OPTIONAL: Final = ("past_key_values", "attentions", "hidden_states")
"""Fields that are tuples, of which a graph returns every part."""


class OutputNames:
    """The names of a graph's outputs for each field of a head's output."""

    def __init__(self, config: GPTJConfig, head: str) -> None:
        layers, prefix = range(config.n_layer), HEADS[head].prefix
        self.fields = [name for name in HEADS[head].outputs if name not in ("loss", *OPTIONAL)]
        self.parts = {
            "past_key_values": [name for i in layers for name in cache_names("present", i)],
            "attentions": [f"{prefix}h.{i}.attn.probs" for i in layers],
            # the first are the embeddings, the last is that of the last norm
            "hidden_states": [*(f"{prefix}h.{i}" for i in layers[:-1]), f"{prefix}ln_f"],
        }
        self.modules = module_names(config, head)[1:]
        """All modules but the word table, which no graph of a whole interface has."""

    def wanted(self, flags: Flags) -> list[str]:
        """Return the names that a call with these flags needs."""
        parts = [name for field, names in self.parts.items() if flags[field] for name in names]
        return [*self.fields, *parts]

    def arrays(self, found: Mapping[str, Any], flags: Flags) -> dict[str, Any]:
        """Return fields of arrays, and tuples of them, from a session's values by name."""
        fields: dict[str, Any] = {name: as_array(found[name]) for name in self.fields}
        for field in ("attentions", "hidden_states"):
            if flags[field]:
                fields[field] = tuple(as_array(found[name]) for name in self.parts[field])
        return fields


def as_array(value: Any) -> Array:
    """Return a copy of a value of ONNX Runtime."""
    found: Array = value.numpy()
    return found
