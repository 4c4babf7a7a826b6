"""A small Flax model, and what to call it with."""

import jax.numpy as jnp

from gptj.model.config import GPTJConfig
from models import draw_ids, tiny_config

IDS = jnp.asarray(draw_ids((2, 7)), jnp.int32)
MASK = jnp.asarray([[1] * 7, [0, 0, 1, 1, 1, 1, 1]], jnp.int32)


def config(**changes):
    """Return a configuration of the tests' own, free to change."""
    return GPTJConfig.from_dict(tiny_config().to_dict(), **changes)
