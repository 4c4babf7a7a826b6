"""The language-model head: logits of the next token."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.losses import causal_lm_loss, head_loss
from gptj.backends.flax.model import FlaxGPTJModule
from gptj.backends.flax.params import Params, has_open_sizes, sizes_known
from gptj.backends.flax.pretrained import FlaxPretrained, as_tensors, deliver
from gptj.backends.flax.quantized_linear import linear_class
from gptj.spec.config import GPTJConfig
from gptj.spec.kept_positions import kept_positions
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_item_count, check_label_values, check_labels


class FlaxGPTJForCausalLMModule(nn.Module):
    """GPT-J with a language-model head as a Linen module."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    gradient_checkpointing: bool = False

    def setup(self) -> None:
        """Make the base model and the head."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        checkpointing = self.gradient_checkpointing
        self.transformer = FlaxGPTJModule(
            self.config, **dtypes, gradient_checkpointing=checkpointing
        )
        linear = linear_class(self.config, self.config.tie_word_embeddings)
        self.lm_head = linear(self.config, self.config.vocab_size, **dtypes)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        deterministic: bool = True,
        past_key_values: KVCache | None = None,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Array = 0,
        num_items_in_batch: int | Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments: ``gptj.contract.backend``."""
        if labels is not None:
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        output: Any = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            deterministic=deterministic,
            past_key_values=past_key_values,
            token_type_ids=token_type_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        kept = keep_positions(output.pop("last_hidden_state"), logits_to_keep)
        # (B, K, V); a softmax over V needs float32
        logits = self.lm_head(kept, self.tied_weights(), deterministic).astype(jnp.float32)
        loss = None if labels is None else self.loss(kept, logits, labels, num_items_in_batch)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return deliver(self.config, result, return_dict)

    def loss(self, hidden: Array, logits: Array, labels: Array, items: Array | None) -> Array:
        """Return the loss of the logits (B, T, V) that the head made of hidden states (B, T, E)."""
        if not self.lm_head.is_plain(hidden) or has_open_sizes(hidden):
            return causal_lm_loss(logits, labels, items)
        own, tied = self.lm_head.variables["params"], self.tied_weights()
        kernel = own["kernel"] if tied is None else tied.T
        return head_loss(hidden, kernel, own["bias"], logits, labels, items)

    def tied_weights(self) -> Array | None:
        """Return the word table for a tied head, None for any other.

        A head with a kernel, as decoding makes one, uses that instead.
        """
        if not self.config.tie_word_embeddings or self.lm_head.has_variable("params", "kernel"):
            return None
        return self.transformer.wte.embedding


class FlaxGPTJForCausalLM(FlaxPretrained):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head = "causal_lm"
    module_class = FlaxGPTJForCausalLMModule

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        params: Params | None = None,
        past_key_values: KVCache | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Array = 0,
        num_items_in_batch: int | Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments: ``gptj.contract.backend``."""
        inputs = as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        self.check(past_key_values, **inputs)
        labels, targets = as_tensors(labels=labels)["labels"], None
        if labels is not None:
            self.check_labels(labels, inputs["input_ids"], inputs["inputs_embeds"], logits_to_keep)
            targets = labels[:, 1:]
        check_item_count(num_items_in_batch, parameters.concrete, targets)
        options: dict[str, Any] = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs |= as_tensors(labels=labels, num_items_in_batch=num_items_in_batch)
        keep = self._kept(logits_to_keep, inputs["input_ids"], inputs["inputs_embeds"])
        if isinstance(keep, int | np.integer):
            options["logits_to_keep"] = int(keep)
        else:
            inputs["logits_to_keep"] = keep
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def _kept(
        self, keep: int | Array | None, input_ids: Array | None, embeds: Array | None
    ) -> int | Array:
        """Return how many of the last positions get logits, or which, (K,)."""
        given = embeds if input_ids is None else input_ids
        sizes = () if given is None else tuple(sizes_known(given).shape)
        keep = kept_positions(keep, sizes[1] if len(sizes) > 1 else None, parameters.concrete)
        return keep if isinstance(keep, int | np.integer) else as_tensors(keep=keep)["keep"]

    def check_labels(
        self, labels: Array, input_ids: Array | None, embeds: Array | None, keep: int | Array
    ) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            known = sizes_known(given).shape[:2]
            check_labels(self.config, sizes_known(labels), known, keep)
            check_label_values(self.config, labels, parameters.concrete)


def keep_positions(hidden_states: Array, keep: int | Array) -> Array:
    """Select from (B, T, E) the last `keep` positions, all for 0, or those of an index tensor."""
    if isinstance(keep, int | np.integer):
        return hidden_states[:, -keep:] if keep else hidden_states
    return hidden_states[:, keep]
