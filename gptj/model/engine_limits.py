"""What is said where an engine lacks an input or an output of the models."""

from collections.abc import Mapping

from gptj.errors import UnsupportedFeature, choices
from gptj.model.array_inputs import Flags, Inputs


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
