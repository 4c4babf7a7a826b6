"""GPT-J as an OpenVINO graph, made from lazy tensors. Maths: ``gptj.spec.reference``.

The keys and values are the graph's own state: a call appends to them, and ``beam_idx`` says first
which of the earlier sequences each row goes on from. In this shape the CPU plugin fuses the state,
the reordering and attention into one operation, and the rotary positions into another.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

from gptj.backends.openvino.constants import Constants, Node
from gptj.backends.openvino.rotary import Rotary
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.tensors import Tensors

KEPT: Final = "kept_positions"
"""The input that says at which of the new tokens outputs are wanted; see `text_graph`."""

OUTPUTS: Final = {
    "base": "last_hidden_state",
    "causal_lm": "logits",
    "sequence_classification": "logits",
    "question_answering": "logits",
}
"""Head -> the name of its output."""


class Inputs(NamedTuple):
    """What a call gives, B sequences of T new tokens, S with the earlier ones."""

    input_ids: Node  # (B, T)
    attention_mask: Node  # (B, S)
    position_ids: Node  # (B, T)
    beam_idx: Node | None = None  # (B,); None in a graph without state


def text_graph(
    config: GPTJConfig, head: str, params: Tensors, *, choose_positions: bool = False
) -> ov.Model:
    """Return the graph of a head that keeps keys and values from call to call.

    Its inputs are those that OpenVINO GenAI and Optimum give to language models; its output is
    (B, T, ...), for a classification, too.

    Args:
        params: canonical names to tensors; stored as constants of their own dtype.
        choose_positions: add an input, ``kept_positions`` (K,), and return (B, K, ...) alone.
    """
    inputs = Inputs(
        _parameter("input_ids", [-1, -1]),
        _parameter("attention_mask", [-1, -1]),
        _parameter("position_ids", [-1, -1]),
        _parameter("beam_idx", [-1], np.int32),
    )
    constants, parameters = Constants(params), [*inputs]
    sinks: list[Node] = []
    x = _layers(config, head, constants, inputs, sinks)
    if choose_positions:
        parameters.append(_parameter(KEPT, [-1]))
        x = ops.gather(x, parameters[-1], np.int64(1))
    result = _result(config, head, constants, x)
    return ov.Model([result], sinks, parameters, f"gptj_{head}")


def call_graph(config: GPTJConfig, head: str, params: Tensors) -> ov.Model:
    """Return the graph of a head for whole texts, whose positions follow from the mask.

    Its inputs are ids and mask; its output is (B, T, ...), or (B, labels) for a classification.
    """
    ids, mask = _parameter("input_ids", [-1, -1]), _parameter("attention_mask", [-1, -1])
    attended = ops.convert(ops.not_equal(mask, np.int64(0)), "i64")
    before = ops.subtract(ops.cum_sum(attended, np.int64(1)), np.int64(1))
    inputs = Inputs(ids, mask, ops.maximum(before, np.int64(0)))
    constants = Constants(params)
    x = _layers(config, head, constants, inputs, [])
    if head == "sequence_classification":
        places = ops.multiply(attended, _count(mask))
        x = ops.gather(x, ops.reduce_max(places, np.int64(1), False), np.int64(1), 1)
    return ov.Model([_result(config, head, constants, x)], [ids, mask], f"gptj_{head}")


def _layers(
    config: GPTJConfig, head: str, constants: Constants, inputs: Inputs, sinks: list[Node]
) -> Node:
    """Return what the last layer does, (B, T, E)."""
    prefix = find_head(head).prefix
    block = Block(config, constants, inputs, sinks)
    x = ops.gather(constants[f"{prefix}wte.weight"], inputs.input_ids, np.int64(0))
    for layer in range(config.n_layer):
        x = block(x, f"{prefix}h.{layer}.", layer)
    return x


def _result(config: GPTJConfig, head: str, constants: Constants, x: Node) -> Node:
    last = _layer_norm(config, constants, x, f"{find_head(head).prefix}ln_f")
    result = ops.result(_head_output(config, head, constants, last))
    result.output(0).get_tensor().set_names({OUTPUTS[head]})
    return result


class Block:
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(
        self, config: GPTJConfig, constants: Constants, inputs: Inputs, sinks: list[Node]
    ) -> None:
        """Make what all layers share; `sinks` gets what writes each layer's state."""
        self.config, self.constants, self.inputs, self.sinks = config, constants, inputs, sinks
        self.rotary = Rotary(config, inputs.position_ids)
        self.mask = additive_mask(inputs)

    def __call__(self, x: Node, prefix: str, layer: int) -> Node:
        """Return the layer's output for (B, T, E)."""
        norm = _layer_norm(self.config, self.constants, x, f"{prefix}ln_1")
        attended = self.attention(norm, f"{prefix}attn.", layer)
        return ops.add(ops.add(attended, self.mlp(norm, f"{prefix}mlp.")), x)

    def attention(self, x: Node, prefix: str, layer: int) -> Node:
        query, key, value = (
            self.split(_linear(self.constants, x, f"{prefix}{name}"))
            for name in ("q_proj", "k_proj", "v_proj")
        )
        query, key = self.to_heads(self.rotary(query)), self.to_heads(self.rotary(key))
        key = self.remembered(key, f"past_key_values.{layer}.key")
        value = self.remembered(self.to_heads(value), f"past_key_values.{layer}.value")
        attended = ops.scaled_dot_product_attention(query, key, value, self.mask)  # (B, H, T, D)
        merged = ops.reshape(self.to_heads(attended), [0, 0, self.config.n_embd], True)
        return _linear(self.constants, merged, f"{prefix}out_proj")

    def split(self, x: Node) -> Node:
        """Split (B, T, E) into (B, T, H, D)."""
        return ops.reshape(x, [0, 0, self.config.n_head, self.config.head_dim], True)

    def to_heads(self, x: Node) -> Node:
        """Swap tokens and heads."""
        return ops.transpose(x, np.array([0, 2, 1, 3], np.int64))

    def remembered(self, new: Node, name: str) -> Node:
        """Return the earlier keys or values with the new ones, (B, H, S, D), and keep them."""
        config = self.config
        if self.inputs.beam_idx is None:
            return new
        shape = ov.PartialShape([-1, config.n_head, -1, config.head_dim])
        batch = ops.gather(ops.shape_of(self.inputs.input_ids), [0], np.int64(0))
        empty = ops.concat(
            [batch, ops.constant(np.array([config.n_head, 0, config.head_dim], np.int64))], 0
        )
        initial = ops.broadcast(np.float32(0), empty)
        past = ops.read_value(initial, name, ov.Type.f32, shape)
        reordered = ops.gather(past, self.inputs.beam_idx, np.int64(0))
        whole = ops.concat([reordered, new], 2)
        self.sinks.append(ops.assign(whole, name))
        return whole

    def mlp(self, x: Node, prefix: str) -> Node:
        inner = _linear(self.constants, x, f"{prefix}fc_in")
        inner = ACTIVATION[self.config.activation_function](inner)
        return _linear(self.constants, inner, f"{prefix}fc_out")


def _parameter(name: str, shape: Sequence[int], dtype: npt.DTypeLike = np.int64) -> Node:
    node = ops.parameter(list(shape), dtype, name)
    node.output(0).get_tensor().set_names({name})
    return node


def additive_mask(inputs: Inputs) -> Node:
    """Return 0 where a query may look and the mask value where not, (B, 1, T, S)."""
    key, new = _count(inputs.attention_mask), _count(inputs.input_ids)  # (S,), (T,)
    before = ops.subtract(_length(inputs.attention_mask), _length(inputs.input_ids))
    query = ops.add(new, before)
    causal = ops.less_equal(key, ops.unsqueeze(query, np.int64(1)))  # (T, S)
    kept = ops.not_equal(inputs.attention_mask, np.int64(0))  # (B, S)
    kept = ops.unsqueeze(kept, np.array([1, 2], np.int64))  # (B, 1, 1, S)
    allowed = ops.logical_and(kept, causal)
    return ops.select(allowed, np.float32(0), np.float32(MASK_VALUE))


def _length(x: Node) -> Node:
    """Return the size of the second axis, a scalar."""
    return ops.gather(ops.shape_of(x), np.int64(1), np.int64(0))


def _count(x: Node) -> Node:
    """Return 0, 1, 2 ... along the second axis."""
    return ops.range(np.int64(0), _length(x), np.int64(1), "i64")


def _layer_norm(config: GPTJConfig, constants: Constants, x: Node, name: str) -> Node:
    normal = ops.mvn(x, np.array([-1], np.int64), True, config.layer_norm_epsilon, "inside_sqrt")
    scaled = ops.multiply(normal, constants[f"{name}.weight"])
    return ops.add(scaled, constants[f"{name}.bias"])


def _linear(constants: Constants, x: Node, name: str) -> Node:
    """Return x W^T, with the bias if there is one."""
    product = ops.matmul(x, constants[f"{name}.weight"], False, True)
    bias = constants.get(f"{name}.bias")
    return product if bias is None else ops.add(product, bias)


def _head_output(config: GPTJConfig, head: str, constants: Constants, last: Node) -> Node:
    if head == "base":
        return last
    if head == "causal_lm":
        weight = EMBEDDING if config.tie_word_embeddings else LM_HEAD
        product = ops.matmul(last, constants[weight], False, True)
        return ops.add(product, constants["lm_head.bias"])
    return _linear(constants, last, find_head(head).modules[0])


ACTIVATION: Final = {
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_new": lambda x: ops.gelu(x, "tanh"),
    "quick_gelu": lambda x: ops.swish(x, np.float32(1.702)),
    "relu": ops.relu,
    "silu": ops.swish,
    "swish": ops.swish,
    "tanh": ops.tanh,
}
"""Name -> the activation."""
