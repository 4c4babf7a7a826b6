"""transformers in TensorFlow, compiled by XLA, as ``gptj.bench.protocol.System``."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tf_keras
from transformers import TFGPTJForCausalLM

from gptj.bench.protocol import serve


class TransformersTF:
    def load(self, model, dtype, train):
        if dtype == "bfloat16":
            tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if train else "bfloat16")
        self.model = TFGPTJForCausalLM.from_pretrained(model)
        self.vocab_size = self.model.config.vocab_size
        never = self.vocab_size  # texts have the length that is asked for
        self.model.generation_config.eos_token_id = never
        self.model.generation_config.pad_token_id = 0
        self.forward = tf.function(lambda ids: self.model(ids).logits, jit_compile=True)
        self.first = tf.function(self._first, jit_compile=True)
        self.generate = tf.function(self._generate, jit_compile=True)
        self.step = tf.function(self._step, jit_compile=True)
        if train:
            self.optimizer = tf_keras.optimizers.AdamW(1e-5, global_clipnorm=1.0)
            self.optimizer.build(self.model.trainable_variables)

    def prefill(self, ids):
        self.forward(tf.constant(ids, tf.int32))[0, 0, 0].numpy()

    def decode(self, ids, count):
        tokens = tf.constant(ids, tf.int32)
        if count == 1:  # fewer than its compiled generate() can write
            return self.first(tokens).numpy()
        return self.generate(tokens, count).numpy()[:, ids.shape[1] :]

    def train_step(self, ids):
        return float(self.step(tf.constant(ids, tf.int32)))

    def _first(self, ids):
        return tf.argmax(self.model(ids).logits[:, -1:], axis=-1)

    def _generate(self, ids, count):
        return self.model.generate(ids, max_new_tokens=count, do_sample=False)

    def _step(self, ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.model(ids, labels=ids, training=True).loss)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss


if __name__ == "__main__":
    serve(TransformersTF())
