"""A state that the caller gives to be saved, where the model's own parameters are elsewhere.

Programs that divide parameters over processes, or keep them on a disk, put a state together.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from gptj.backends.torch.changed_modules import OWN_ADAPTER
from gptj.backends.torch.kernels.int4_layout import INT4
from gptj.backends.torch.tied_state import TIED
from gptj.errors import ArgumentError, brief
from gptj.spec.params import Parameter, parameter_table

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

MOST_NAMES: Final = 8
"""Names of a kind that a message lists."""


def check_state(model: "TorchPretrained", state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state that are a model's parameters, in their order.

    Raises:
        ArgumentError: for what is no state, naming each tensor that is missing, has no place in the
            model's files, or has another shape or dtype than the configuration asks for.
    """
    if not isinstance(state, Mapping):
        raise ArgumentError(
            f"state_dict must be a mapping of names to tensors; found {type(state).__name__}."
        )
    table = parameter_table(model.config, model.head)
    tied = {name for name, other in TIED.items() if name not in table and _same(state, name, other)}
    others = [name for name in state if name not in table and name not in tied]
    wrong = {
        "lacks": [name for name in table if name not in state],
        "has beside the model": [brief(name) for name in others if OWN_ADAPTER not in str(name)],
        "has in another form": [
            f"{name} ({_form(state[name])})"
            for name, parameter in table.items()
            if name in state and not _fits(state[name], parameter)
        ],
    }
    found = "; it ".join(f"{what} {_listed(names)}" for what, names in wrong.items() if names)
    if found:
        raise ArgumentError(
            f"state_dict is not this model's: it {found}. Give what its own state_dict() holds, "
            "with the values that are to be saved; an adapter is saved apart."
        )
    return {name: state[name] for name in table}


def _same(state: Mapping[str, Tensor], name: str, other: str) -> bool:
    """Return whether a tied weight is the one that it should be; a tied state may lack it."""
    one, table = state.get(name), state.get(other)
    return isinstance(one, Tensor) and isinstance(table, Tensor) and torch.equal(one, table)


def _fits(value: object, parameter: Parameter) -> bool:
    """Return whether a value can be that of a parameter."""
    if not isinstance(value, Tensor):
        return False
    fixed, found = parameter.dtype, str(value.dtype).removeprefix("torch.")
    is_kind = value.is_floating_point() if fixed is None else found == fixed
    is_shape = tuple(value.shape) == parameter.shape or value.dtype == INT4  # in a kernel's layout
    return is_kind and is_shape


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype} {tuple(value.shape)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
