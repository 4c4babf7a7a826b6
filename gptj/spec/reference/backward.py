"""The backward pass in float64, layer by layer: the gradient of every loss for every parameter.

It is written by hand from the formula of each operation, without any framework's differentiation;
the tests check it by finite differences. A query that attends to nothing averages all values with
constant weights, so its scores get no gradient. A given cache is constant too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptj.errors import ArgumentError
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.reference import ops, ops_backward
from gptj.spec.reference.block import Block, LayerCache
from gptj.spec.reference.forward import additive_mask, forward, layer_of, rotation
from gptj.spec.reference.heads import HeadInputs
from gptj.spec.reference.loss_gradients import logits_gradient
from gptj.spec.reference.maths import join_heads, split_heads
from gptj.spec.reference.ops import Array

Gradients = dict[str, Array]


def backward(
    config: GPTJConfig, params: Mapping[str, Any], *, head: str = "causal_lm", **inputs: Any
) -> tuple[ModelOutput, Gradients]:
    """Run a model in float64, and return its output and the gradient of its loss.

    Args:
        params: canonical names to arrays or lazy tensors.
        inputs: those of `forward`, including the head's targets.

    Returns:
        The output, and the gradients by canonical name in the shapes of the parameters.

    Raises:
        ArgumentError: without targets, since there is no loss.
    """
    prefix, states = find_head(head).prefix, {}
    blocks = [f"{prefix}h.{layer}" for layer in range(config.n_layer)]

    def observe(name: str, x: Array) -> None:
        if name in blocks:
            states[name] = x

    output = forward(config, params, head=head, observe=observe, **inputs)
    if output.loss is None:
        raise ArgumentError(f"A gradient needs a loss: give the targets of the head {head!r}.")
    gradients: Gradients = {
        name: np.zeros(parameter.shape) for name, parameter in parameter_table(config, head).items()
    }
    dy = _head(config, params, head, output, inputs, gradients)
    before = [output.hidden_states[0], *states.values()]  # the input of every block, and the last
    dy = _norm(config, params, f"{prefix}ln_f", dy, before[-1], gradients)
    context = _Context(config, output.hidden_states[0], inputs)
    for layer in reversed(range(config.n_layer)):
        block = BlockBackward(config, params, f"{blocks[layer]}.", gradients)
        dy = block.backward(dy, before[layer], context, layer)
    _embedding(f"{prefix}wte.weight", dy, inputs, gradients)
    return output, gradients


class _Context:
    """The inputs that all blocks share: mask, rotation, cache and head mask."""

    def __init__(self, config: GPTJConfig, x: Array, inputs: Mapping[str, Any]) -> None:
        mask, past = inputs.get("attention_mask"), inputs.get("past_key_values")
        self.past_length = 0 if past is None else past[0][0].shape[2]
        self.mask = additive_mask(mask, x.shape[1], self.past_length)
        self.rotation = rotation(
            config, mask, inputs.get("position_ids"), x.shape[:2], self.past_length
        )
        self.past: Sequence[LayerCache | None] = [None] * config.n_layer if past is None else past
        self.head_mask = inputs.get("head_mask")


class BlockBackward(Block):
    """One layer, recomputed forward and then backward."""

    def __init__(
        self, config: GPTJConfig, params: Mapping[str, Any], prefix: str, gradients: Gradients
    ) -> None:
        super().__init__(config, params, prefix, lambda name, output: None)
        self.gradients = gradients

    def backward(self, dy: Array, x: Array, context: _Context, layer: int) -> Array:
        """Return the gradient for the input x, (B, T, E), of a block with output gradient dy."""
        weight, bias = self.read("ln_1.weight"), self.read("ln_1.bias")
        norm = ops.layer_norm(x, weight, bias, self.config.layer_norm_epsilon)
        factors = layer_of(context.head_mask, layer)
        d_norm = self.attention_backward(dy, norm, context, context.past[layer], factors)
        d_norm = d_norm + self.mlp_backward(dy, norm)
        return dy + _norm(self.config, self.params, f"{self.prefix}ln_1", d_norm, x, self.gradients)

    def attention_backward(
        self,
        dy: Array,
        x: Array,
        context: _Context,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> Array:
        """Return the gradient for the normalised input (B, T, E) of the attention."""
        turn, start = context.rotation, context.past_length
        query = ops.apply_rotary(self.heads("q_proj", x), *turn)  # (B, H, T, D)
        key = ops.apply_rotary(self.heads("k_proj", x), *turn)
        value = self.heads("v_proj", x)
        if past is not None:
            key = np.concatenate((past[0], key), axis=2)  # (B, H, S, D)
            value = np.concatenate((past[1], value), axis=2)
        scale = np.sqrt(self.config.head_dim)
        scores = query @ key.swapaxes(2, 3) / scale  # (B, H, T, S)
        probs = ops.softmax(np.maximum(scores + context.mask, MASK_VALUE))
        weights = probs if head_mask is None else probs * head_mask

        merged = (weights @ value).swapaxes(1, 2).reshape(x.shape)  # (B, T, E)
        d_merged = self.linear_backward("attn.out_proj", dy, merged)
        d_attended = split_heads(d_merged, self.config.n_head)
        d_value = weights.swapaxes(2, 3) @ d_attended
        d_probs = d_attended @ value.swapaxes(2, 3)
        d_probs = d_probs if head_mask is None else d_probs * head_mask
        d_scores = ops_backward.softmax(d_probs, probs) / scale
        d_scores = np.where(context.mask > MASK_VALUE, d_scores, 0.0)
        d_query = ops_backward.apply_rotary(d_scores @ key, *turn)
        d_key = (d_scores.swapaxes(2, 3) @ query)[:, :, start:]
        d_key = ops_backward.apply_rotary(d_key, *turn)
        return (
            self.linear_backward("attn.q_proj", join_heads(d_query), x)
            + self.linear_backward("attn.k_proj", join_heads(d_key), x)
            + self.linear_backward("attn.v_proj", join_heads(d_value[:, :, start:]), x)
        )

    def mlp_backward(self, dy: Array, x: Array) -> Array:
        """Return the gradient for the normalised input (B, T, E) of the MLP."""
        name = self.config.activation_function
        inner = x @ self.read("mlp.fc_in.weight").T + self.read("mlp.fc_in.bias")  # (B, T, F)
        d_active = self.linear_backward("mlp.fc_out", dy, ops.ACTIVATION[name](inner))
        return self.linear_backward("mlp.fc_in", d_active * ops_backward.SLOPE[name](inner), x)

    def linear_backward(self, name: str, dy: Array, x: Array) -> Array:
        """Return the gradient for the input of a projection, and add those of its parameters."""
        return _linear(self.params, self.prefix + name, dy, x, self.gradients)


def _head(
    config: GPTJConfig,
    params: Mapping[str, Any],
    head: str,
    output: ModelOutput,
    inputs: Mapping[str, Any],
    gradients: Gradients,
) -> Array:
    """Return the gradient for the last states (B, T, E), and add those of the head."""
    last = output.hidden_states[-1]
    past = inputs.get("past_key_values")
    past_length = 0 if past is None else past[0][0].shape[2]
    mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
    given = HeadInputs(config, params, inputs, mask, ids, past_length, lambda name, x: None)
    dy = logits_gradient(config, head, output, inputs)
    if head == "causal_lm":
        weight = given.output_weight()
        return _linear(params, "lm_head", dy, last, gradients, weight)
    if head == "question_answering":
        return _linear(params, "qa_outputs", dy, last, gradients)
    place = given.pooled_positions(last)
    d_last = np.zeros_like(last)
    d_last[place] = _linear(params, "score", dy, last[place], gradients)
    return d_last


def _linear(
    params: Mapping[str, Any],
    name: str,
    dy: Array,
    x: Array,
    gradients: Gradients,
    weight_name: str | None = None,
) -> Array:
    weight_name = weight_name or f"{name}.weight"
    dx, d_weight, d_bias = ops_backward.linear(dy, x, ops.read(params[weight_name], np.float64))
    gradients[weight_name] += d_weight
    if f"{name}.bias" in gradients:
        gradients[f"{name}.bias"] += d_bias
    return dx


def _norm(
    config: GPTJConfig,
    params: Mapping[str, Any],
    name: str,
    dy: Array,
    x: Array,
    gradients: Gradients,
) -> Array:
    weight = ops.read(params[f"{name}.weight"], np.float64)
    dx, d_weight, d_bias = ops_backward.layer_norm(dy, x, weight, config.layer_norm_epsilon)
    gradients[f"{name}.weight"] += d_weight
    gradients[f"{name}.bias"] += d_bias
    return dx


def _embedding(name: str, dy: Array, inputs: Mapping[str, Any], gradients: Gradients) -> None:
    """Add the gradient of the embedding, which token types share."""
    for ids in (inputs.get("input_ids"), inputs.get("token_type_ids")):
        if ids is not None:
            np.add.at(gradients[name], np.asarray(ids), dy)
