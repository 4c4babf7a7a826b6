"""What is said where an engine lacks an input or an output of the models."""

from collections.abc import Mapping
from typing import Final

from gptj.errors import ConfigError, UnsupportedFeature, choices
from gptj.model.array_inputs import Flags, Inputs
from gptj.spec.config import GPTJConfig

COMPILED: Final = (
    "vocab_size",
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "rotary_dim",
    "activation_function",
    "layer_norm_epsilon",
    "tie_word_embeddings",
)
"""Fields of a configuration that are part of what an engine runs."""


def refuse(backend: str, asked: Mapping[str, bool]) -> None:
    """Refuse what is asked for, of things that a backend does not have.

    Args:
        asked: what it lacks -> whether a call asks for it.

    Raises:
        UnsupportedFeature: naming them.
    """
    found = [name for name, is_asked in asked.items() if is_asked]
    if found:
        raise UnsupportedFeature(
            f"The backend {backend!r} does not have {choices(found)}: its engine takes ids and a "
            "mask, and returns the outputs of the head. Leave it out, or load the model in torch, "
            "tf, flax, numpy or onnxruntime."
        )


def refuse_extras(backend: str, inputs: Inputs, flags: Flags) -> None:
    """Refuse all inputs but ids, a mask of keys and positions, and all outputs but the head's.

    Raises:
        UnsupportedFeature: naming them.
    """
    mask = inputs["attention_mask"]
    names = ("inputs_embeds", "token_type_ids", "head_mask")
    asked = {name: inputs[name] is not None for name in names}
    asked["attention_mask of (B, 1, T, S)"] = mask is not None and mask.ndim == 4
    asked |= {f"output_{name}": flags[name] for name in ("attentions", "hidden_states")}
    refuse(backend, asked)


def compiled_facts(config: GPTJConfig) -> dict[str, object]:
    """Return the fields that become part of what an engine runs, as they are now."""
    return {name: getattr(config, name) for name in COMPILED}


def check_unchanged(backend: str, config: GPTJConfig, facts: Mapping[str, object]) -> None:
    """Refuse a configuration that has changed since the model was made for its engine.

    Raises:
        ConfigError: naming what has changed.
    """
    for name, value in facts.items():
        now = getattr(config, name)
        if now != value:
            raise ConfigError(
                f"config.{name} has become {now!r}; the backend {backend!r} runs what was compiled "
                f"with {value!r}. Set it back, or load the model with {name}={now!r}."
            )
