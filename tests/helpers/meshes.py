"""Flax models over meshes of JAX's devices; imported where JAX has eight of them."""

from functools import cache

import jax
from flax.traverse_util import flatten_dict
from jax.sharding import AxisType

from gptj.model.config import GPTJConfig
from gptj.spec.tensors import LazyTensor
from models import tiny_config, tiny_weights


@cache
def mesh(data, model, kind=AxisType.Explicit):
    """Return a mesh; JAX makes explicit axes where nothing is said."""
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(kind,) * 2)


def build(sharding, head="causal_lm", dtype="float32", **changes):
    from gptj.backends.flax.backend import BACKEND

    tensors = {name: LazyTensor.of(w) for name, w in tiny_weights(head, **changes).items()}
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict())
    return BACKEND.build(config, head, params=tensors, dtype=dtype, sharding=sharding)


def leaves(model):
    return flatten_dict(model.params, sep="/")
