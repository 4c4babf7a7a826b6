"""GPT-J as an ONNX model, from its configuration: what a session runs, without gptj."""

from collections.abc import Mapping
from typing import Final

import onnx
from onnx import helper

from gptj.backends.onnxruntime.blocks import Context, block, layer_norm
from gptj.backends.onnxruntime.graph_heads import HEAD_OUTPUTS
from gptj.backends.onnxruntime.graph_inputs import (
    additive_mask,
    attended,
    last_attended,
    positions,
)
from gptj.backends.onnxruntime.interface import (
    TOTAL,
    Interface,
    Values,
    cache_names,
    cache_values,
    floats,
    graph_inputs,
)
from gptj.backends.onnxruntime.nodes import Nodes
from gptj.backends.onnxruntime.weights import COSINE, SINE
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.system.versions import VERSION

OPSET: Final = 20
"""The first with ``Gelu``."""

IR_VERSION: Final = 9
"""The one that belongs to the opset, which older programs read too."""


def build_graph(
    config: GPTJConfig, head: str, weights: Mapping[str, onnx.TensorProto], interface: Interface
) -> onnx.ModelProto:
    """Return the model of a head over weights that `write_weights` has written."""
    nodes = Nodes(weights)
    x, context, chosen = _entrance(nodes, config, head, interface)
    prefix = HEADS[head].prefix
    for layer in range(config.n_layer):
        past = cache_names("past_key_values", layer) if interface.cache else None
        x, cache = block(nodes, context, layer, f"{prefix}h.{layer}", x, past)
        if interface.cache:
            for value, name in zip(cache, cache_names("present", layer), strict=True):
                nodes.add("Identity", value, name=name)
    nodes.scope = prefix
    x = layer_norm(nodes, x, f"{prefix}ln_f", config.layer_norm_epsilon)
    outputs = HEAD_OUTPUTS[head](nodes, config, x, chosen)
    if interface.cache:
        outputs += cache_values(config, "present", TOTAL)
    if interface.whole:
        outputs += _modules(nodes)
    return helper.make_model(
        nodes.graph(HEADS[head].class_name, graph_inputs(config, head, interface), outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gptj",
        producer_version=VERSION,
    )


def _entrance(
    nodes: Nodes, config: GPTJConfig, head: str, interface: Interface
) -> tuple[str, Context, str | None]:
    """Add what comes before the first layer: (B, T, E), what all layers use, and the choice."""
    chosen = "chosen" if interface.chosen else None
    if interface.whole:
        sine, cosine = (_rows(nodes, table, "position_ids") for table in (SINE, COSINE))
        context = Context(config, sine, cosine, "attention_bias", "head_mask")
        return "inputs_embeds", context, chosen
    mask = attended(nodes)
    if head == "sequence_classification" and chosen is None:
        chosen = last_attended(nodes, mask)
    places = "position_ids" if interface.positions else positions(nodes, mask)
    sine, cosine = (_rows(nodes, table, places) for table in (SINE, COSINE))
    context = Context(config, sine, cosine, additive_mask(nodes, mask))
    table = nodes.weight(f"{HEADS[head].prefix}wte.weight")
    return nodes.add("Gather", table, "input_ids"), context, chosen


def _rows(nodes: Nodes, table: str, places: str) -> str:
    """Add the rows of a rotary table at (B, T) positions, (B, T, 1, R)."""
    rows = nodes.add("Gather", nodes.weight(table), places)
    return nodes.add("Unsqueeze", rows, nodes.integers(2))


def _modules(nodes: Nodes) -> Values:
    """Return the outputs of all modules, under their canonical names."""
    for name, value in nodes.modules.items():
        nodes.add("Identity", value, name=name)
    return [floats(name, [None] * _rank(name)) for name in nodes.modules]


def _rank(module: str) -> int:
    """Return the number of axes of a module's output: most are (B, T, width)."""
    if module.endswith(".probs"):
        return 4  # (B, H, T, S)
    return 2 if module == "score" else 3
