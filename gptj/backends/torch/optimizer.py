"""Saves and loads the state of Adam. The maths: ``gptj.spec.optimizer``."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from gptj.backends.torch.params import from_numpy, native_name, to_numpy
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.errors import ArgumentError
from gptj.spec.lora import lora_layers
from gptj.spec.optimizer import AdamState, check_nothing_lost
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor

HELD: Final = frozenset({"step", "exp_avg", "exp_avg_sq"})
"""PyTorch's names for what is saved of a parameter's state."""


def dump_optimizer(model: TorchPretrained, optimizer: Optimizer) -> AdamState:
    """Return the state of an optimizer, as handles that copy nothing before use.

    Betas and epsilon are None unless all groups have the same.

    Args:
        optimizer: ``torch.optim.Adam`` or ``AdamW`` of all trainable parameters of the model, in
            any order and groups. Before the first update the moments are zero.

    Raises:
        ArgumentError: for another kind of optimizer, or one of other parameters.
        UnsupportedFeature: for a relative of Adam that keeps more than the moments.
    """
    trained = _trained(model, optimizer)
    states = {name: optimizer.state.get(tensor, {}) for name, tensor in trained.items()}
    kept = {str(key) for state in states.values() for key in state}
    check_nothing_lost(sorted(kept - HELD), "torch.save of optimizer.state_dict()")
    pairs = [group["betas"] for group in optimizer.param_groups]
    betas = {(float(beta_1), float(beta_2)) for beta_1, beta_2 in pairs}
    epsilons = {float(group["eps"]) for group in optimizer.param_groups}
    return AdamState(
        step=_steps(states),
        first={name: _handle(states[name], "exp_avg", trained[name]) for name in trained},
        second={name: _handle(states[name], "exp_avg_sq", trained[name]) for name in trained},
        betas=betas.pop() if len(betas) == 1 else None,
        epsilon=epsilons.pop() if len(epsilons) == 1 else None,
    )


def load_optimizer(model: TorchPretrained, optimizer: Optimizer, state: AdamState) -> Optimizer:
    """Give an optimizer a state, and return it; rates and decays stay as they are.

    Moments take the dtype and device of their parameters; betas and epsilon are set where known.

    Args:
        optimizer: as for `dump_optimizer`.
        state: of exactly the trainable parameters.

    Raises:
        ArgumentError: for another kind of optimizer, or one of other parameters.
    """
    trained = _trained(model, optimizer)
    for group in optimizer.param_groups:
        group["betas"] = group["betas"] if state.betas is None else state.betas
        group["eps"] = group["eps"] if state.epsilon is None else state.epsilon
        on_device = group["capturable"] or group["fused"]
        own = {id(tensor) for tensor in group["params"]}
        for name, tensor in trained.items():
            if id(tensor) in own:
                optimizer.state[tensor] = _state(state, name, tensor, on_device)
    return optimizer


def _trained(model: TorchPretrained, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the trainable parameters by canonical name, if the optimizer is their Adam."""
    _check_kind(optimizer)
    parameters = _parameters(model)
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    trained = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
    missing = [name for name, tensor in trained.items() if id(tensor) not in held]
    unknown = len(held - {id(tensor) for tensor in parameters.values()})
    if missing or unknown or not trained:
        raise ArgumentError(
            f"The optimizer is not one of this model: {len(missing)} of {len(trained)} parameters "
            f"that are trained are not in it ({', '.join(missing[:4]) or 'none'}), and {unknown} "
            "in it are not the model's. Make it of model.parameters(), after add_lora or "
            "resize_token_embeddings."
        )
    return trained


def _check_kind(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, Adam | AdamW):
        raise ArgumentError(
            f"The state of a {type(optimizer).__name__} cannot be moved: accepted are "
            "torch.optim.Adam and AdamW."
        )
    if any(group["amsgrad"] for group in optimizer.param_groups):
        raise ArgumentError("The optimizer has amsgrad=True, whose third moment has no place here.")
    if any(hasattr(p, "full_tensor") for group in optimizer.param_groups for p in group["params"]):
        raise ArgumentError(
            "The parameters are divided over processes. Save the optimizer with "
            "torch.distributed.checkpoint instead."
        )


def _parameters(model: TorchPretrained) -> dict[str, Tensor]:
    """Return a model's parameters by canonical name, including an adapter's."""
    table = parameter_table(model.config, model.head).values()
    found = {parameter.name: model.get_parameter(native_name(parameter)) for parameter in table}
    layers = {} if model.lora is None else lora_layers(model.lora, model.config, model.head)
    for module, layer in layers.items():
        adapter = model.get_submodule(module).adapter
        found[layer.down], found[layer.up] = adapter.lora_A, adapter.lora_B
    return found


def _steps(states: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Return the number of updates; parameters that never had a gradient do not count."""
    steps = {int(state["step"]) for state in states.values() if state}
    if len(steps) > 1:
        raise ArgumentError(
            f"The parameters were not updated equally often: found {sorted(steps)} updates. Only "
            "one number can be moved: give every parameter a gradient at every step."
        )
    return steps.pop() if steps else 0


def _handle(state: Mapping[str, Tensor], key: str, tensor: Tensor) -> LazyTensor:
    """Return a handle on a moment as float32, or on zeros before the first update."""

    def load() -> npt.NDArray[Any]:
        if key not in state:
            return np.zeros(tensor.shape, np.float32)
        return to_numpy(state[key]).astype(np.float32, copy=False)

    return LazyTensor(tuple(tensor.shape), np.dtype(np.float32), load)


def _state(state: AdamState, name: str, tensor: Tensor, on_device: bool) -> dict[str, Tensor]:
    """Return the state of one parameter in PyTorch's form."""
    like = partial(torch.zeros_like, tensor, memory_format=torch.preserve_format)
    place = tensor.device if on_device else "cpu"
    step = torch.tensor(float(state.step), dtype=torch.float32, device=place)
    moments = {"exp_avg": state.first[name], "exp_avg_sq": state.second[name]}
    # a copy, because PyTorch refuses read-only arrays
    found = {key: like().copy_(from_numpy(np.array(t.read()))) for key, t in moments.items()}
    return {"step": step, **found}
