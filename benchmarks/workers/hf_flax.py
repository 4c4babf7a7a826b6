"""transformers in Flax, compiled by an outer jit, as ``gptj.bench.protocol.System``.

Its `generate` alone traces the model at every call; so everything here is compiled once per shape.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from transformers import FlaxGPTJForCausalLM

from gptj.bench.protocol import serve


class TransformersFlax:
    def load(self, model, dtype, train):
        self.model = FlaxGPTJForCausalLM.from_pretrained(model, dtype=getattr(jnp, dtype))
        if dtype == "bfloat16" and not train:
            self.model.params = self.model.to_bf16(self.model.params)
        self.vocab_size = self.model.config.vocab_size
        never = self.vocab_size  # texts have the length that is asked for
        self.model.generation_config.eos_token_id = never
        self.model.generation_config.pad_token_id = 0
        self.forward = jax.jit(lambda params, ids: self.model(ids, params=params).logits)
        if train:
            self.optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
            self.state = self.optimizer.init(self.model.params)

    def prefill(self, ids):
        self.forward(self.model.params, ids).block_until_ready()

    def decode(self, ids, count):
        return np.asarray(self._decode(self.model.params, ids, count))[:, ids.shape[1] :]

    def train_step(self, ids):
        self.model.params, self.state, loss = self._step(self.model.params, self.state, ids)
        return float(loss)

    @partial(jax.jit, static_argnums=(0, 3))
    def _decode(self, params, ids, count):
        options = {"max_new_tokens": count, "do_sample": False}
        return self.model.generate(ids, params=params, **options).sequences

    @partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def _step(self, params, state, ids):
        def loss_of(params):
            logits = self.model(ids, params=params, train=True, dropout_rng=jax.random.key(0))
            rows = logits.logits[:, :-1].astype(jnp.float32)
            return optax.softmax_cross_entropy_with_integer_labels(rows, ids[:, 1:]).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = self.optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss


if __name__ == "__main__":
    serve(TransformersFlax())
