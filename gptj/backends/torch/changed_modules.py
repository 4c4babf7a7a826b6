"""A model whose modules have been changed is not saved as if it were whole."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from torch import Tensor

from gptj.errors import UnsupportedFeature
from gptj.spec.params import Parameter

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

OWN_ADAPTER: Final = ".adapter."
"""In the names of what ``gptj.backends.torch.lora`` adds to layers, and saves."""


def find_parameter(model: "TorchPretrained", parameter: Parameter) -> Tensor:
    """Return a parameter of a model.

    Raises:
        UnsupportedFeature: if there is none, or one of another shape than the configuration's.
    """
    try:
        value: Tensor = model.get_parameter(parameter.name)
    except AttributeError:
        raise UnsupportedFeature(
            f"The model has no parameter {parameter.name}, which its configuration asks for. If "
            "pruning or a parametrization computes it, make that permanent first, with "
            "torch.nn.utils.prune.remove or torch.nn.utils.parametrize.remove_parametrizations; if "
            "a module was taken out, change the configuration too."
        ) from None
    if value.is_floating_point() and tuple(value.shape) != parameter.shape:
        raise UnsupportedFeature(
            f"{parameter.name} has the shape {tuple(value.shape)}, but the configuration means "
            f"{parameter.shape}. Change the two together, as resize_token_embeddings does."
        )
    return value


def check_complete(model: "TorchPretrained", known: Iterable[Tensor]) -> None:
    """Refuse parameters that no file has a place for: without them it is another model.

    Raises:
        UnsupportedFeature: for the adapters of another library, and for changed modules.
    """
    places = {id(value) for value in known}
    others = [
        name
        for name, value in model.named_parameters(remove_duplicate=False)
        if id(value) not in places and OWN_ADAPTER not in name
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UnsupportedFeature(
            f"The model has parameters that its files have no place for: {others[0]}{more}. Save "
            "an adapter of PEFT by the save_pretrained of PEFT's model, or make it part of the "
            "weights first, with merge_and_unload(). Of modules that you have changed, save "
            "model.state_dict()."
        )


def check_unwrapped(name: str, layer: object, kinds: tuple[type, ...]) -> None:
    """Refuse a layer in the place of a linear one, where an adapter would have no effect.

    Raises:
        UnsupportedFeature: naming its class.
    """
    if not isinstance(layer, kinds):
        raise UnsupportedFeature(
            f"{name} is a {type(layer).__name__} of {type(layer).__module__}, to which an adapter "
            "cannot be added. With PEFT, add another adapter there, or make its own part of the "
            "weights first, with merge_and_unload()."
        )
