"""Graphs in files, which OpenVINO runs without this package."""

from pathlib import Path

import openvino as ov

from gptj.backends.openvino.graph import call_graph, text_graph
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors


def write_graph(path: Path, config: GPTJConfig, head: str, params: Tensors) -> None:
    """Write the graph of a head as an ``.xml``, and its weights beside it.

    That of the causal language model keeps keys and values, in float32, as its file says; those of
    other heads are for whole texts.
    """
    graph = (text_graph if head == "causal_lm" else call_graph)(config, head, params)
    graph.set_rt_info("f32", ["runtime_options", "KV_CACHE_PRECISION"])
    ov.save_model(graph, path, compress_to_fp16=False)


def open_graph(path: Path) -> ov.CompiledModel:
    """Return a written graph, compiled for the processor as its page says."""
    return ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
