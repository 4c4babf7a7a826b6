"""What generate() takes of JAX's own: seeds and keys, also while they are traced."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gptj.contract.decoding import SeedWords
from gptj.errors import ArgumentError, brief, choices
from gptj.generation.keywords import GenerationOptions

Array: TypeAlias = jax.Array
Words = tuple[Array, Array]


def as_seed(seed: int | Array | None, prng_key: Array | None) -> int | SeedWords | None:
    """Return a seed, or that of a key, as an option of generate(): words where it is traced.

    Args:
        seed: an integer, which may be an array, ().
        prng_key: ``jax.random.key(n)``, or the older ``PRNGKey(n)``, (2,) of uint32; both draw the
            same as ``seed=n``.

    Raises:
        ArgumentError: for both, or for an array of another form.
    """
    if prng_key is not None:
        if seed is not None:
            raise ArgumentError("seed and prng_key say the same twice: leave one out.")
        high, low = _key_words(prng_key)
    elif isinstance(seed, jax.Array):
        low, high = _integer_words(seed)
    else:
        return seed
    if isinstance(low, jax.core.Tracer):
        return SeedWords(low, high)
    return int(high) << 32 | int(low)


def check_static(options: Mapping[str, Any]) -> None:
    """Refuse options that are traced, as they decide what is compiled; a seed may be.

    Raises:
        ArgumentError: naming them.
    """
    names = (*GenerationOptions.__annotations__, "num_return_sequences", "generation_config")
    traced = [name for name in names if name != "seed" and _has_tracer(options.get(name))]
    if traced:
        raise ArgumentError(
            f"{choices(traced)} of generate() must be known when it is compiled, and is traced: "
            "give the value outside of jax.jit, or name the argument in its static_argnames. Only "
            "seed and prng_key may be arguments of a compiled function."
        )


def _has_tracer(value: object) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        return any(_has_tracer(item) for item in value)
    return isinstance(value, jax.core.Tracer)


def _key_words(key: Array) -> Words:
    """Return the high and the low word of one key of either kind."""
    if not hasattr(key, "dtype"):
        raise ArgumentError(
            f"prng_key must be one key, as jax.random.key(0) makes it; found {brief(key)}. An "
            "integer is a seed: seed=0 draws the same as jax.random.key(0)."
        )
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(key) if typed else key
    if data.dtype != jnp.uint32 or data.ndim != 1 or data.shape[0] < 2:
        raise ArgumentError(
            "prng_key must be one key, as jax.random.key(0) makes it; found an array of shape "
            f"{key.shape} and dtype {key.dtype}. jax.vmap takes several keys."
        )
    return data[-2], data[-1]


def _integer_words(seed: Array) -> Words:
    """Return the low and the high word of an integer, whose sign fills the high one."""
    if seed.ndim or not jnp.issubdtype(seed.dtype, jnp.integer):
        raise ArgumentError(
            f"seed must be an integer; found an array of shape {seed.shape} and dtype {seed.dtype}."
        )
    if seed.dtype.itemsize == 8:
        return seed.astype(jnp.uint32), (seed >> 32).astype(jnp.uint32)
    sign = jnp.where(seed < 0, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))
    return seed.astype(jnp.uint32), sign
