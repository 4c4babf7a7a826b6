"""What a graph takes and returns.

    input_ids               (B, T) int64
    attention_mask          (B, S) int64, 1 = attend and 0 = padding, S = P + T
    position_ids            (B, T) int64, if the interface has it, else they follow from the mask
    past_key_values.0.key   (B, H, P, D) float32 and so on, if it has a cache; P may be 0
    chosen                  int64, if it has it: (K,) positions that get logits in a language model;
                            (B,) which token of each sequence a classifier uses

The outputs are ``last_hidden_state`` (B, T, E); ``logits`` (B, T or K, V) or, of a classifier,
(B, L), by default at the last attended token; or ``start_logits`` and ``end_logits`` (B, T); and
with a cache ``present.0.key`` (B, H, S, D) and so on. B, T and P are dynamic.

A graph of a whole interface takes, instead of ids and mask,

    inputs_embeds           (B, T, E) float32
    attention_bias          (B or 1, H or 1, T, S) float32, added to the scores
    head_mask               (L, H) float32, factors on the probabilities

and returns the output of every module by its canonical name (see ``gptj.spec.module_names``), and
the attention probabilities of layer 0 as ``transformer.h.0.attn.probs`` (B, H, T, S) and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import helper

from gptj.backends.onnxruntime.blocks import LayerCache
from gptj.spec.config import GPTJConfig

BATCH: Final = "batch_size"
LENGTH: Final = "sequence_length"
CHOSEN: Final = "chosen_length"
TOTAL: Final = "total_sequence_length"
PAST: Final = "past_sequence_length"

Values = list[onnx.ValueInfoProto]


def floats(name: str, shape: Sequence[str | int | None]) -> onnx.ValueInfoProto:
    """Return an input or output of float32; a dimension with a name, or None, is dynamic."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


@dataclass(frozen=True)
class Interface:
    """What a graph takes and returns besides the usual.

    Attributes:
        cache: keys and values of earlier tokens, which it then returns too.
        positions: ``position_ids``.
        chosen: which tokens the head is computed for.
        whole: all of these, and what the description of the module says.
    """

    cache: bool = False
    positions: bool = False
    chosen: bool = False
    whole: bool = False


WHOLE: Final = Interface(cache=True, positions=True, chosen=True, whole=True)


def cache_names(kind: str, layer: int) -> LayerCache:
    """Return the names of a layer's keys and values, of kind ``past_key_values`` or ``present``."""
    return f"{kind}.{layer}.key", f"{kind}.{layer}.value"


def graph_inputs(config: GPTJConfig, head: str, interface: Interface) -> Values:
    """Return the inputs of the graph of a head."""
    total = TOTAL if interface.cache else LENGTH
    if interface.whole:
        found = [
            floats("inputs_embeds", [BATCH, LENGTH, config.n_embd]),
            floats("attention_bias", ["bias_batch_size", "bias_heads", LENGTH, total]),
            floats("head_mask", [config.n_layer, config.n_head]),
        ]
    else:
        found = [_integers("input_ids", BATCH, LENGTH), _integers("attention_mask", BATCH, total)]
    if interface.positions:
        found.append(_integers("position_ids", BATCH, LENGTH))
    if interface.chosen and head == "sequence_classification":
        found.append(_integers("chosen", BATCH))
    if interface.chosen and head == "causal_lm":
        found.append(_integers("chosen", CHOSEN))
    return found + (cache_values(config, "past_key_values", PAST) if interface.cache else [])


def cache_values(config: GPTJConfig, kind: str, length: str) -> Values:
    """Return the keys and values of all layers, whose third dimension is called `length`."""
    shape: list[str | int | None] = [BATCH, config.n_head, length, config.head_dim]
    names = (name for layer in range(config.n_layer) for name in cache_names(kind, layer))
    return [floats(name, shape) for name in names]


def _integers(name: str, *shape: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)
