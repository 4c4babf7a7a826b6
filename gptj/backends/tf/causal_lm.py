"""The language-model head: logits of the next token."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.keras_checks import check_weights_of_tokens
from gptj.backends.tf.keras_fit import on_host
from gptj.backends.tf.losses import causal_lm_loss, next_token_loss
from gptj.backends.tf.model import TFGPTJModel
from gptj.backends.tf.pretrained import TFPretrained
from gptj.backends.tf.quantized_linear import linear_class
from gptj.errors import ArgumentError
from gptj.spec import IGNORE_INDEX
from gptj.spec.checks import check_row_shape
from gptj.spec.config import GPTJConfig
from gptj.spec.kept_positions import kept_positions
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_item_count, check_label_values, check_labels
from gptj.spec.types import DType

Tensor: TypeAlias = tf.Tensor

COPIES_INPUT: Final = (
    "y equals input_ids, from which a model learns to copy its input: in Keras y[t] is the target "
    "of position t, here the token after it. Give fit() labels inside x, as in "
    "fit({'input_ids': ids, 'labels': ids}), which the model shifts itself; or a y that is shifted "
    "already, with -100 in its last column."
)


@keras.saving.register_keras_serializable(package="gptj")
class TFGPTJForCausalLM(TFPretrained):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head = "causal_lm"

    def __init__(
        self,
        config: GPTJConfig,
        *,
        seed: int = 0,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(config, seed, name, dtype, trainable)
        dtype, tied = self.dtype_policy, config.tie_word_embeddings
        with keras.name_scope(self.name):  # the base model creates its variables now
            self.transformer = TFGPTJModel(config, seed=seed, name="transformer", dtype=dtype)
        linear = linear_class(config, tied)
        self.lm_head = linear(
            config.n_embd, config.vocab_size, tied=tied, name="lm_head", dtype=dtype
        )
        params.initialize(self, seed)

    def build(self, input_shape: object = None) -> None:
        """Build the head; the constructor has done it."""
        if not self.built:
            self.lm_head.build()

    def call(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments: ``gptj.contract.backend``."""
        self.warn_of_half(training)
        targets = None
        if labels is not None:
            self.check_labels(labels, input_ids, inputs_embeds, logits_to_keep)
            targets = labels[:, 1:]
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        keep = self._kept(logits_to_keep, input_ids, inputs_embeds)
        check_item_count(num_items_in_batch, params.concrete, targets)
        output = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            training=training,
        )
        kept = keep_positions(output.pop("last_hidden_state"), keep)
        # a tied head is given the word table: a Keras variable has one owner
        table = self.transformer.wte.embeddings if self.lm_head.tied else None
        logits = self.lm_head(kept, table=table)
        logits = tf.cast(logits, tf.float32)  # (B, K, V); a softmax over V needs float32
        loss = None if labels is None else causal_lm_loss(logits, labels, num_items_in_batch)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def _kept(
        self, keep: int | Tensor | None, input_ids: Tensor | None, embeds: Tensor | None
    ) -> int | Tensor:
        """Return how many of the last positions get logits, or which, (K,)."""
        given = embeds if input_ids is None else input_ids
        sizes = () if given is None else tuple(given.shape)
        keep = kept_positions(keep, sizes[1] if len(sizes) > 1 else None, params.concrete)
        return (
            keep
            if isinstance(keep, int | np.integer)
            else params.input_tensor(keep, "logits_to_keep")
        )

    def check_labels(
        self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None, keep: int | Tensor
    ) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_labels(self.config, labels, tuple(given.shape[:2]), keep)
            check_label_values(self.config, labels, params.concrete)

    def check_targets(self, inputs: Mapping[str, Any], y: npt.NDArray[Any] | None) -> None:
        """Refuse labels inside x, or y, that do not fit; only a compiled loss knows its values."""
        input_ids, labels = inputs.get("input_ids"), inputs.get("labels")
        if labels is not None:
            self.check_labels(labels, input_ids, inputs.get("inputs_embeds"), 0)
            check_label_values(self.config, labels, on_host)
        if y is None or input_ids is None:
            return
        if self.loss is None:
            check_row_shape("y", y, *input_ids.shape)
            check_label_values(self.config, y, on_host)
        if copies_input(y, input_ids):
            raise ArgumentError(COPIES_INPUT)

    # Keras: `fit` takes the loss from here; y[t] is the target of position t, already shifted
    def compute_loss(
        self,
        x: object = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Return the compiled loss of the logits and y, or the model's own if there is none."""
        if y is not None and self.loss is not None:
            check_weights_of_tokens(sample_weight)
            return super().compute_loss(x, y, y_pred.logits, sample_weight, training)
        own = y_pred.loss if y is None else next_token_loss(y_pred.logits, y)
        return self.own_loss(own, sample_weight)

    def compute_metrics(
        self,
        x: object,
        y: Tensor | None,
        y_pred: ModelOutput,
        sample_weight: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the metrics of the logits."""
        return super().compute_metrics(x, y, y_pred.logits, sample_weight)


def copies_input(y: npt.NDArray[Any], input_ids: npt.NDArray[Any]) -> bool:
    """Return whether targets (B, T) are the tokens of their own positions, not the next ones."""
    if y.shape != input_ids.shape:
        return False
    kept = y != IGNORE_INDEX
    if not kept.any() or (y != input_ids)[kept].any():
        return False
    return bool((y[:, :-1] != input_ids[:, 1:])[kept[:, :-1]].any())  # unless all tokens are equal


def keep_positions(hidden_states: Tensor, keep: int | Tensor) -> Tensor:
    """Select from (B, T, E) the last `keep` positions, all for 0, or those of an index tensor."""
    if isinstance(keep, int | np.integer):
        return hidden_states[:, -keep:] if keep else hidden_states
    return tf.gather(hidden_states, keep, axis=1)
