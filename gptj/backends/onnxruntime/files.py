"""ONNX files: the graphs of a head, and one file of weights that all of them use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gptj.backends.onnxruntime.graph import build_graph
from gptj.backends.onnxruntime.interface import Interface
from gptj.backends.onnxruntime.weights import write_weights
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.system.atomic import replacing

MODEL: Final = "model.onnx"
WEIGHTS: Final = "model.onnx.data"


def write_files(
    folder: Path,
    config: GPTJConfig,
    head: str,
    params: Tensors,
    interfaces: Mapping[str, Interface],
) -> None:
    """Write the weights of a head, one at a time, and a graph for every interface.

    Args:
        params: every parameter by canonical name, not quantized; they are written in float32.
        interfaces: the name of a file -> what its graph takes and returns.

    Raises:
        CheckpointError: if a weight cannot be read or the disk does not take it.
    """
    entries = write_weights(folder / WEIGHTS, config, head, params)
    for name, interface in interfaces.items():
        graph = build_graph(config, head, entries, interface)
        with replacing(folder / name) as file:
            file.write(graph.SerializeToString())
