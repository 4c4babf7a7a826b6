"""Rotary positions, in the shape that OpenVINO's plugins fuse into one operation."""

import numpy as np
from openvino import opset13 as ops

from gptj.backends.openvino.constants import Node
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table


class Rotary:
    """The sine and cosine of all positions of a call, and how they rotate queries and keys."""

    def __init__(self, config: GPTJConfig, position_ids: Node) -> None:
        """Look the positions (B, T) up in the table."""
        self.width, self.rest = config.rotated_dim, config.head_dim - config.rotated_dim
        sin, cos = rotary_table(config)  # (N, R), each number twice
        table = np.concatenate((sin[:, ::2], cos[:, ::2]), axis=1)  # (N, R)
        self.table = ops.gather(ops.constant(table), position_ids, np.int32(0))  # (B, T, R)
        half = np.array([self.width // 2, -1], np.int64)
        halves = ops.variadic_split(self.table, np.int64(-1), half)
        twice = np.repeat(np.arange(self.width // 2, dtype=np.int32), 2)
        self.sin, self.cos = (
            ops.gather(
                ops.unsqueeze(halves.output(i), np.int64(2)), ops.constant(twice), np.int32(3)
            )
            for i in range(2)
        )  # (B, T, 1, R)

    def __call__(self, x: Node) -> Node:
        """Rotate the first R of the last axis of (B, T, H, D)."""
        if self.rest == 0:
            return self._rotated(x)
        split = ops.variadic_split(x, np.int64(3), np.array([self.width, self.rest], np.int64))
        return ops.concat([self._rotated(split.output(0)), split.output(1)], -1)

    def _rotated(self, x: Node) -> Node:
        odd, even = (_every_second(x, start) for start in (1, 0))
        pairs = [ops.unsqueeze(y, np.int64(-1)) for y in (ops.multiply(odd, np.float32(-1)), even)]
        heads = [0, 0, 0, self.width]
        turned = ops.reshape(ops.concat(pairs, -1), np.array(heads, np.int64), True)
        return ops.add(ops.multiply(x, self.cos), ops.multiply(turned, self.sin))


def _every_second(x: Node, start: int) -> Node:
    """Return every second number of the last of four axes."""
    first, end = np.array([start], np.int64), np.array([np.iinfo(np.int32).max], np.int64)
    return ops.slice(x, first, end, np.array([2], np.int64), np.array([3], np.int64))
