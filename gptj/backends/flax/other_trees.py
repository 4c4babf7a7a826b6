"""Trees like a model's parameters: new ones, other dtypes, and what a checkpoint is read into."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from gptj.backends.flax import params as parameters
from gptj.backends.flax.lora import LORA
from gptj.backends.flax.parallel import Wanted, shardings
from gptj.backends.flax.params import Params
from gptj.backends.flax.stacked_layers import is_stacked, stack_leaves, unstack_layers
from gptj.spec.config import GPTJConfig
from gptj.spec.params import parameter_table


class OtherTrees:
    """What every Flax model makes besides its own parameters."""

    config: GPTJConfig
    head: ClassVar[str]
    param_dtype: jnp.dtype
    _params: Params | None

    def init_weights(self, rng: Array, input_shape: tuple[int, ...] = (1, 1)) -> Params:
        """Return a new tree of parameters; ``jax.random.key(n)`` draws the same as ``seed=n``."""
        high, low = (int(word) for word in jax.random.key_data(rng).ravel()[-2:])
        seed = (high << 32) | low
        return parameters.initialize(self.config, self.head, seed, self.param_dtype)

    def abstract_params(self, sharding: Wanted | None = None) -> Params:
        """Return a tree like `params` of shapes, dtypes and shardings, which holds no values.

        Orbax restores into it on another number of devices than it saved from. Dtypes are those of
        the model's parameters, or its `param_dtype` if it has none. An adapter is whole everywhere.

        Args:
            sharding: as `load` takes it: a mesh, a sharding, a tree of them, or a function. None
                leaves it open, as ``jax.eval_shape`` does.

        Raises:
            ArgumentError: for anything else, and for a sharding that does not fit its array.
        """
        chosen = {} if sharding is None else shardings(sharding, self.config, self.head)
        apart = {} if self._params is None else jax.eval_shape(unstack_layers, self._params)
        held = flatten_dict(apart, sep="/")
        leaves = {}
        for parameter in parameter_table(self.config, self.head).values():
            path = parameters.native_name(parameter)
            shape = parameters.native_order(parameter, parameter.shape)
            own = held[path].dtype if path in held else None
            dtype = own or parameter.dtype or self.param_dtype
            leaves[path] = jax.ShapeDtypeStruct(shape, dtype, sharding=chosen.get(path))
        stacked = is_stacked(self._params)
        tree: Params = unflatten_dict(stack_leaves(leaves) if stacked else leaves, sep="/")
        if self._params is None or LORA not in self._params:
            return tree
        place = _whole(next(iter(chosen.values()), None))
        adapter = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            self._params[LORA],
        )
        return {**tree, LORA: adapter}

    def to_bf16(self, params: Params, mask: Params | None = None) -> Params:
        """Return parameters in bfloat16; `mask` is a tree of booleans that chooses some."""
        return parameters.cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Params, mask: Params | None = None) -> Params:
        """Return parameters in float16; `mask` is a tree of booleans that chooses some."""
        return parameters.cast(params, jnp.float16, mask)

    def to_fp32(self, params: Params, mask: Params | None = None) -> Params:
        """Return parameters in float32; `mask` is a tree of booleans that chooses some."""
        return parameters.cast(params, jnp.float32, mask)


def _whole(sharding: Sharding | None) -> Sharding | None:
    """Return the sharding that puts a whole array on all devices of another one."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding
