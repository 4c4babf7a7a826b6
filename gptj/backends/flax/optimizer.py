"""Saves and loads the state of Adam. The maths: ``gptj.spec.optimizer``.

An Optax state is a tree. An `optax.ScaleByAdamState` in it holds the moments, which are trees like
that of the parameters; masked parameters have no leaves there, and are not trained.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax import Array
from jax.tree_util import GetAttrKey, KeyPath

from gptj.backends.flax import params as parameters
from gptj.backends.flax.lora import LEAF, LORA
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained
from gptj.backends.flax.stacked_layers import map_apart, unstack_layers
from gptj.errors import ArgumentError
from gptj.spec.lora import lora_layers, saved_parameters
from gptj.spec.optimizer import AdamState, check_nothing_lost, name_left_out
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor, Tensors

Optimizer: TypeAlias = optax.OptState
Leaf: TypeAlias = tuple[KeyPath, Array]
"""Path and array."""

Node: TypeAlias = object
"""A leaf of an Optax state, or a state of Adam as a whole."""

COUNTS: Final = ("count", "gradient_step")
"""Optax's names for the number of updates in the states of Adam, schedules and others."""

HELD: Final = (*COUNTS, "b1", "b2", "eps")
"""Optax's names for what is saved besides the moments."""

OWN_COUNTS: Final = (optax.EmaState, optax.contrib.ReduceLROnPlateauState)
"""States whose count belongs to what no file holds: with another count they would go wrong."""


class LeafInfo(NamedTuple):
    """What is at a path of the trained tree."""

    name: str  # canonical
    shape: tuple[int, ...]  # in the tree
    turned: bool  # whether it is stored as (in, out)


def dump_optimizer(model: FlaxPretrained, optimizer: Optimizer) -> AdamState:
    """Return the state of an optimizer, as handles that copy nothing before use.

    Betas and epsilon are None unless ``optax.inject_hyperparams`` put them into the state.
    Relatives of Adam with a state of the same form, such as NAdam, cannot be distinguished from it.

    Args:
        optimizer: the state of an Optax transformation that has Adam in it, over ``model.params``,
            or over ``model.params["lora"]`` where the model has an adapter. One warning names the
            numbers that are left out, such as rates in ``optax.inject_hyperparams``.

    Raises:
        ArgumentError: for a state without Adam, or one of other parameters.
        UnsupportedFeature: for one with accumulated gradients, momentum or averages of weights.
    """
    first, second = _moments(_places(model), optimizer)
    _check_leftovers(optimizer)
    known = {_last(path): leaf for path, leaf in _others(optimizer)}
    has_betas = "b1" in known and "b2" in known
    return AdamState(
        step=_steps(optimizer),
        first=first,
        second=second,
        betas=(float(known["b1"]), float(known["b2"])) if has_betas else None,
        epsilon=float(known["eps"]) if "eps" in known else None,
    )


def load_optimizer(model: FlaxPretrained, optimizer: Optimizer, state: AdamState) -> Optimizer:
    """Return a state like another, with these moments; the other stays as it is.

    Structure, dtypes and shardings stay. All counts of updates become that of `state`, including
    those of schedules. Betas and epsilon belong to the transformation, which must be made with
    those of `state`; they are set only where ``optax.inject_hyperparams`` put them.

    Args:
        optimizer: as for `dump_optimizer`.
        state: of exactly the trainable parameters.

    Raises:
        ArgumentError: for a state without Adam, or one of other parameters.
    """
    places = _places(model)
    _moments(places, optimizer)  # refuses a state of another model
    numbers = _numbers(state)

    def loaded(path: KeyPath, node: Node) -> Node:
        if isinstance(node, OWN_COUNTS):
            return node
        if _is_adam(node):
            return optax.ScaleByAdamState(
                count=_like(node.count, np.asarray(state.step)),
                mu=map_apart(partial(_tree_like, places, state.first), node.mu),
                nu=map_apart(partial(_tree_like, places, state.second), node.nu),
            )
        known = numbers.get(_last(path))
        return node if known is None else _like(node, np.asarray(known))

    return jax.tree_util.tree_map_with_path(loaded, optimizer, is_leaf=_is_whole)


def _check_leftovers(optimizer: Optimizer) -> None:
    """Refuse what a file cannot hold and updates depend on; name the numbers that it lacks."""
    lost, left = [], []
    others = [(_path_in_state(path), leaf) for path, leaf in _others(optimizer)]
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in _others(optimizer)
    ]
    for name, leaf in others:
        field = name.split("/")[0]
        is_float = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        if (np.ndim(leaf) and is_float) or field == "mini_step":
            lost += [field] if jnp.any(leaf) else []
        elif np.ndim(leaf) == 0 and _is_left_out(name, leaf, paths):
            left.append(name)
    check_nothing_lost(sorted(set(lost)), "Orbax")
    name_left_out(sorted(set(left)))


def _is_left_out(name: str, leaf: Array, paths: Collection[str]) -> bool:
    """Return whether a number is neither saved nor what a new state or a schedule has there."""
    dtype = jnp.result_type(leaf)
    if name.split("/")[-1] in HELD or not jnp.issubdtype(dtype, jnp.number):
        return False
    schedule = name.replace("hyperparams/", "hyperparams_states/", 1)
    scheduled = schedule != name and any(f"{schedule}/" in path for path in paths)
    return not scheduled and bool(leaf != 0) and bool(jnp.isfinite(leaf))


def _places(model: FlaxPretrained) -> dict[str, LeafInfo]:
    """Return the trainable leaves by path: the adapter's, or all without an adapter."""
    table = parameter_table(model.config, model.head)
    whole = table if model.lora is None else saved_parameters(model.lora, model.config, model.head)
    places = {}
    for parameter in (table[name] for name in whole):
        shape = parameters.native_order(parameter, parameter.shape)
        turned = parameter.kind == "linear_weight"
        places[parameters.native_name(parameter)] = LeafInfo(parameter.name, shape, turned)
    layers = {} if model.lora is None else lora_layers(model.lora, model.config, model.head)
    for layer in layers.values():
        path = f"{layer.module.replace('.', '/')}/{LEAF}"
        places[f"{path}/lora_A"] = LeafInfo(layer.down, (layer.inputs, layer.rank), True)
        places[f"{path}/lora_B"] = LeafInfo(layer.up, (layer.rank, layer.outputs), True)
    return places


def _moments(places: dict[str, LeafInfo], optimizer: Optimizer) -> tuple[Tensors, Tensors]:
    """Return both moments by canonical name, if the state has Adam over the trainable leaves."""
    nodes = _adams(optimizer)
    if not nodes:
        raise ArgumentError(
            "The optimizer has no Adam in it: accepted is the state of an Optax transformation "
            f"such as optax.adamw, as its init returned it; found {type(optimizer).__name__}."
        )
    first = [item for node in nodes for item in _leaves(unstack_layers(node.mu))]
    second = [item for node in nodes for item in _leaves(unstack_layers(node.nu))]
    _check_leaves(places, first)
    return _handles(places, first), _handles(places, second)


def _check_leaves(places: dict[str, LeafInfo], leaves: Sequence[Leaf]) -> None:
    """Refuse moments of untrained parameters, of another shape, and two of one parameter."""
    problems, seen = [], set()
    for path, leaf in leaves:
        place = places.get(_path(path))
        if place is None:
            problems.append(f"{_path(path)} is not trained")
        elif place.shape != tuple(leaf.shape):
            problems.append(f"{_path(path)} is {tuple(leaf.shape)}, needed is {place.shape}")
        elif place.name in seen:
            problems.append(f"{_path(path)} is there twice")
        seen.add(place and place.name)
    if problems or not leaves:
        raise ArgumentError(
            f"The optimizer is not one of this model: of its {len(leaves)} moments "
            f"{len(problems)} do not fit: {'; '.join(problems[:4]) or 'there are none'}. Make it "
            f"of model.params, or of model.params[{LORA!r}] where the model has an adapter."
        )


def _steps(optimizer: Optimizer) -> int:
    """Return the number of updates."""
    steps = {int(node.count) for node in _adams(optimizer)}
    if len(steps) > 1:
        raise ArgumentError(
            f"The parameters were not updated equally often: found {sorted(steps)} updates. Only "
            "one number can be moved."
        )
    return steps.pop()


def _numbers(state: AdamState) -> dict[str, float | None]:
    """Return the numbers to set beside the moments, by Optax's names; None stays as it is."""
    first, second = state.betas or (None, None)
    return {**dict.fromkeys(COUNTS, state.step), "b1": first, "b2": second, "eps": state.epsilon}


def _handles(places: dict[str, LeafInfo], leaves: Sequence[Leaf]) -> dict[str, LazyTensor]:
    """Return handles on moments as float32, in canonical orientation, by canonical name."""
    found = {}
    for path, leaf in leaves:
        place = places[_path(path)]
        handle = LazyTensor(place.shape, np.dtype(np.float32), partial(_float32, leaf))
        found[place.name] = handle.transposed() if place.turned else handle
    return found


def _float32(leaf: Array) -> npt.NDArray[Any]:
    return parameters.to_numpy(leaf).astype(np.float32, copy=False)


def _tree_like(places: dict[str, LeafInfo], tensors: Tensors, tree: Params) -> Params:
    """Return a tree like another, with these tensors."""

    def loaded(path: KeyPath, leaf: Array) -> Array:
        place = places[_path(path)]
        value = tensors[place.name].read()
        return _like(leaf, value.T if place.turned else value)

    return jax.tree_util.tree_map_with_path(loaded, tree)


def _like(leaf: Array, value: npt.NDArray[Any]) -> Array:
    """Return values as an array like another; each device reads its shard."""
    dtype = jnp.result_type(leaf)
    if getattr(leaf, "sharding", None) is None:  # a NumPy array
        return jnp.asarray(value, dtype)
    return jax.make_array_from_callback(
        value.shape, leaf.sharding, lambda index: np.array(value[index], dtype, order="C")
    )


def _adams(optimizer: Optimizer) -> list[optax.ScaleByAdamState]:
    return [node for node in jax.tree.leaves(optimizer, is_leaf=_is_adam) if _is_adam(node)]


def _others(optimizer: Optimizer) -> list[Leaf]:
    """Return the leaves outside of Adam's states."""
    leaves = jax.tree_util.tree_leaves_with_path(optimizer, is_leaf=_is_adam)
    return [(path, leaf) for path, leaf in leaves if not _is_adam(leaf)]


def _is_whole(node: Node) -> bool:
    return _is_adam(node) or isinstance(node, OWN_COUNTS)


def _is_adam(node: Node) -> TypeGuard[optax.ScaleByAdamState]:
    return isinstance(node, optax.ScaleByAdamState)


def _leaves(tree: Params) -> list[Leaf]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _path(path: KeyPath) -> str:
    """Return a path as ``transformer/h/0/attn/q_proj/kernel``, whatever the tree's containers."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix(f"{LORA}/")


def _path_in_state(path: KeyPath) -> str:
    """Return a path from the name of a state's field on: ``hyperparams/learning_rate``."""
    fields = [i for i, key in enumerate(path) if isinstance(key, GetAttrKey)]
    start = fields[-1] if fields else 0
    return jax.tree_util.keystr(path[start:], simple=True, separator="/")


def _last(path: KeyPath) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)
