"""A model's parameters as constants of a graph."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

from gptj.spec.tensors import Tensors

Node: TypeAlias = ov.Node | ov.Output
"""A node of a graph, or one output of it: OpenVINO's functions take both."""


class Constants:
    """Parameters by canonical name, each one constant however often it is used."""

    def __init__(self, params: Tensors) -> None:
        """Read nothing yet."""
        self.params = params
        self.made: dict[str, Node] = {}

    def get(self, name: str) -> Node | None:
        """Return a parameter, None where the model has none of this name."""
        return self[name] if name in self.params else None

    def __getitem__(self, name: str) -> Node:
        """Return a parameter in float32."""
        if name not in self.made:
            self.made[name] = self._made(name)
        return self.made[name]

    def _made(self, name: str) -> Node:
        array = np.ascontiguousarray(self.params[name].read())
        node = _constant(array)
        node.set_friendly_name(name)
        return node if array.dtype == np.float32 else ops.convert(node, "f32")


def _constant(array: npt.NDArray[Any]) -> Node:
    """Return an array as a constant that shares its memory; bfloat16 is copied."""
    if array.dtype.name != "bfloat16":
        return ops.constant(array, shared_memory=True)
    bits = ov.Tensor(array.view(np.uint16), ov.Shape(array.shape), ov.Type.bf16)
    return ops.constant(bits, shared_memory=False)  # it would not keep the array alive
