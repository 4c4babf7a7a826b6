"""One operation in two forms: one that XLA's CPU kernels are fast with, and the plain one."""

from collections.abc import Callable
from typing import TypeAlias

import jax
from jax import Array

Operation: TypeAlias = Callable[..., Array]


def on_cpu(operation: Operation, plain: Operation) -> Operation:
    """Return `operation` for a CPU and `plain` for the rest; its derivative is that of `plain`."""

    @jax.custom_jvp
    def either(*arguments: Array) -> Array:
        return jax.lax.platform_dependent(*arguments, cpu=operation, default=plain)

    @either.defjvp
    def jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        return either(*primals), jax.jvp(plain, primals, tangents)[1]

    return either
