"""What follows from the attention mask, as ONNX operators: who attends, positions, the last token.

Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``.
"""

from dataclasses import dataclass

import onnx

from gptj.backends.onnxruntime.nodes import Nodes
from gptj.spec import MASK_VALUE


@dataclass(frozen=True)
class Attended:
    """Who attends to whom; all are names of values.

    Attributes:
        past: how many tokens are in the cache, a scalar.
        keys: the places of all tokens, (S,).
        queries: those of the new ones, (T, 1).
        mask: which of all are attended, bool (B, S).
        allowed: which of them a new one sees, bool (B, T, S): attended ones, up to itself.
    """

    past: str
    keys: str
    queries: str
    mask: str
    allowed: str


def attended(nodes: Nodes) -> Attended:
    """Add what the shapes of the inputs and the mask say."""
    nodes.scope = "mask."
    zero, one = nodes.integer(0), nodes.integer(1)
    total, length = _length(nodes, "attention_mask"), _length(nodes, "input_ids")
    keys = nodes.add("Range", zero, total, one)
    past = nodes.add("Sub", total, length)
    new = nodes.add("Range", past, total, one)
    queries = nodes.add("Unsqueeze", new, nodes.integers(1))
    mask = nodes.add("Cast", "attention_mask", to=onnx.TensorProto.BOOL)
    causal = nodes.add("LessOrEqual", keys, queries)  # (T, S)
    allowed = nodes.add("And", causal, nodes.add("Unsqueeze", mask, nodes.integers(1)))
    return Attended(past, keys, queries, mask, allowed)


def additive_mask(nodes: Nodes, attended: Attended) -> str:
    """Add what is added to the scores, (B, 1, T, S): 0, or the mask value."""
    added = nodes.add("Where", attended.allowed, nodes.number(0.0), nodes.number(MASK_VALUE))
    return nodes.add("Unsqueeze", added, nodes.integers(1))


def positions(nodes: Nodes, attended: Attended) -> str:
    """Add the position of every new token, (B, T), as `positions_from_mask` defines it."""
    nodes.scope = "positions."
    seen = nodes.add("Where", attended.allowed, attended.keys, nodes.integer(-1))
    last = nodes.add("ReduceMax", seen, nodes.integers(-1))  # (B, T, 1), the last attended so far
    ones = nodes.add("Cast", attended.allowed, to=onnx.TensorProto.INT64)
    before = nodes.add("Sub", nodes.add("ReduceSum", ones, nodes.integers(-1)), nodes.integer(1))
    found = nodes.add("Add", before, nodes.add("Sub", attended.queries, last))
    is_before_all = nodes.add("Less", last, nodes.integer(0))
    found = nodes.add("Where", is_before_all, nodes.integer(0), found)
    return nodes.add("Squeeze", found, nodes.integers(-1))


def last_attended(nodes: Nodes, attended: Attended) -> str:
    """Add which of the new tokens is the last attended, (B,); 0 where none is."""
    places = nodes.add("Where", attended.mask, attended.keys, nodes.integer(0))
    last = nodes.add("ReduceMax", places, nodes.integers(-1), keepdims=0)
    return nodes.add("Max", nodes.add("Sub", last, attended.past), nodes.integer(0))


def _length(nodes: Nodes, name: str) -> str:
    """Add the number of columns of (B, n), a scalar."""
    return nodes.add("Squeeze", nodes.add("Shape", name, start=1, end=2), nodes.integers(0))
