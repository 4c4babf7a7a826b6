"""Updates of a model's parameters, one batch at a time. The maths: ``gptj.spec.update_rule``."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy.typing as npt
import optax
from jax import Array

from gptj.backends.flax import params as parameters
from gptj.backends.flax.lora import LORA
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained
from gptj.spec.update_rule import NORM_EPSILON, Examples, MicroBatch, UpdateRule

Contribution: TypeAlias = tuple[Array, Params]
"""A loss and its gradients."""


def mixed(dtype: str) -> dict[str, Any]:
    """Return the options of ``load`` for half-precision matmuls on float32 parameters."""
    return {"dtype": dtype, "param_dtype": "float32"}


class Trainer:
    """Trains the trainable parameters of a model; ``model.params`` is the tree after each step.

    Attributes:
        optimizer: the state of an Optax optimizer, which holds the moments.
    """

    def __init__(self, model: FlaxPretrained, rule: UpdateRule, dtype: str) -> None:
        """Make the optimizer; the model was loaded to compute in `dtype`."""
        self.model = model
        self.pure = model.bind(None)  # all parameters are arguments of what is compiled
        self.direction = optax.chain(
            optax.scale_by_adam(*rule.betas, eps=rule.epsilon),
            optax.add_decayed_weights(rule.weight_decay, mask=_are_matrices),
        )
        self.optimizer = self.direction.init(self._split(model.params)[0])
        # the last gradients' memory: allocating costs a fifth of a training step on a CPU
        self._spare: Params | None = None
        self._differentiate = jax.jit(self._loss_and_gradients, donate_argnums=0, keep_unused=True)
        self._apply = jax.jit(partial(self._update, rule.max_norm), donate_argnums=(0, 1))
        self._evaluate = jax.jit(self._outputs, static_argnames="names")

    def step(
        self, micro_batches: Sequence[MicroBatch], rate: float, seed: int
    ) -> tuple[float, float]:
        """Update the parameters once; return the loss before and the norm of the gradients."""
        trained, frozen = self._split(self.model.params)
        loss, gradients = self._gradients(micro_batches, trained, frozen, seed)
        trained, self.optimizer, norm = self._apply(
            trained, self.optimizer, gradients, jnp.float32(rate)
        )
        self.model.params = {**frozen, LORA: trained} if frozen else trained
        self._spare = gradients
        return float(loss), float(norm)

    def evaluate(self, rows: Examples, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the named outputs of the model, without dropout."""
        outputs = self._evaluate(self.model.params, rows, names=tuple(names))
        return {name: parameters.to_numpy(array) for name, array in outputs.items()}

    def _gradients(
        self, micro_batches: Sequence[MicroBatch], trained: Params, frozen: Params, seed: int
    ) -> Contribution:
        """Return the loss of a batch and its gradients."""
        total, spare, self._spare = None, self._spare, None
        keys = jax.random.split(jax.random.key(seed), len(micro_batches))
        for micro_batch, key in zip(micro_batches, keys, strict=True):
            spare = jax.tree.map(jnp.zeros_like, trained) if spare is None else spare
            share = jnp.float32(micro_batch.share)
            found = self._differentiate(spare, trained, frozen, micro_batch.rows, share, key)
            total, spare = (found, None) if total is None else (_sum(total, found), found[1])
        assert total is not None  # a batch has at least one micro-batch
        return total

    def _split(self, params: Params) -> tuple[Params, Params]:
        """Return the trainable tree, and the rest."""
        if LORA not in params:
            return params, {}
        return params[LORA], {name: tree for name, tree in params.items() if name != LORA}

    def _loss_and_gradients(
        self,
        spare: Params,
        trained: Params,
        frozen: Params,
        examples: Params,
        share: Array,
        key: Array,
    ) -> Contribution:
        """Return the contribution of a micro-batch to the loss and the gradients, in `spare`."""

        def loss(trained: Params) -> Array:
            params = {**frozen, LORA: trained} if frozen else trained
            output = self.pure(
                **examples, params=params, train=True, dropout_rng=key, return_dict=True
            )
            return output.loss * share

        return jax.value_and_grad(loss)(trained)

    def _update(
        self,
        max_norm: float,
        trained: Params,
        state: optax.OptState,
        gradients: Params,
        rate: Array,
    ) -> tuple[Params, optax.OptState, Array]:
        """Return the updated parameters and state, and the norm of the gradients."""
        norm = global_norm(gradients)
        scale = jnp.minimum(max_norm / (norm + NORM_EPSILON), 1.0)
        gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)
        directions, state = self.direction.update(gradients, state, trained)
        trained = jax.tree.map(lambda p, d: (p - rate * d).astype(p.dtype), trained, directions)
        return trained, state, norm

    def _outputs(
        self, params: Params, examples: Params, names: tuple[str, ...]
    ) -> dict[str, Array]:
        output = self.pure(**examples, params=params, return_dict=True)
        return {name: output[name] for name in names}


def global_norm(gradients: Params) -> Array:
    """Return the norm of all gradients, float32 in any dtype: sums in half precision lose much."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients))


@partial(jax.jit, donate_argnums=0)
def _sum(first: Contribution, second: Contribution) -> Contribution:
    return jax.tree.map(jnp.add, first, second)


def _are_matrices(tree: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
