"""An ONNX graph under construction: operators are added in order, and values have names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Nodes:
    """Collects the nodes and constants of a graph.

    Attributes:
        scope: begins the names of the values that are added.
        modules: the canonical name of a module -> the value that it returns.
    """

    def __init__(self, weights: Mapping[str, onnx.TensorProto]) -> None:
        """Begin a graph that may use these weights, by name."""
        self.scope = ""
        self.modules: dict[str, str] = {}
        self._weights = weights
        self._used: dict[str, onnx.TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output, which is called `name` if given, and return its name."""
        return self._node(operator, inputs, [name or self._new(operator)], attributes)[0]

    def split(self, x: str, sizes: Sequence[int]) -> list[str]:
        """Cut the last axis of `x` into parts of these sizes."""
        names = [self._new(f"Split_{part}") for part in range(len(sizes))]
        return self._node("Split", [x, self.integers(*sizes)], names, {"axis": -1})

    def weight(self, name: str) -> str:
        """Use a weight, which is in the graph once however often it is used."""
        self._used[name] = self._weights[name]
        return name

    def integers(self, *values: int, name: str | None = None) -> str:
        """Return a constant of int64, (n,), which is called `name` if given."""
        name = name or "integers_" + "_".join(map(str, values))
        return self._constant(name, np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Return a constant of int64, a scalar."""
        return self._constant(f"integer_{value}", np.array(value, np.int64))

    def number(self, value: float) -> str:
        """Return a constant of float32, a scalar."""
        return self._constant(f"number_{value!r}", np.array(value, np.float32))

    def graph(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.GraphProto:
        """Return what was added as a graph."""
        return helper.make_graph(self._nodes, name, inputs, outputs, [*self._used.values()])

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._used:
            self._used[name] = numpy_helper.from_array(value, name)
        return name

    def _node(
        self, operator: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, Any]
    ) -> list[str]:
        self._nodes.append(
            helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}.node", **attributes)
        )
        return outputs

    def _new(self, operator: str) -> str:
        return f"{self.scope}{operator}_{len(self._nodes)}"
