"""The modules of the package, the rooms that they are in, and what they import."""

import ast
from functools import cache

from paths import SOURCE

FRAMEWORKS = (
    *("torch", "tensorflow", "keras", "jax", "flax", "optax", "optree", "transformers"),
    *("onnx", "onnxruntime", "openvino", "ctranslate2", "vllm"),
)
OWN_FRAMEWORKS = {
    "backends.torch": {"torch"},
    "backends.tf": {"tensorflow", "keras", "optree"},
    "backends.flax": {"jax", "flax", "optax"},
    "backends.onnxruntime": {"onnx", "onnxruntime"},
    "backends.openvino": {"openvino"},
    "backends.ctranslate2": {"ctranslate2"},
    "backends.vllm": {"vllm"},
    # a target runs what it writes
    "exporting.aoti": {"torch"},
    "exporting.litert": {"tensorflow"},
    "exporting.saved_model": {"tensorflow"},
    "exporting.stablehlo": {"jax", "flax"},
}

FILES = {
    ".".join(("gptj", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(SOURCE.rglob("*.py"))
}
"""Every module of the package -> its file."""


def room_of(module):
    """Return the room that a module belongs to: ``gptj.backends.tf.cache`` -> ``backends``."""
    return ".".join(module.split(".")[1:2])


def backend_of(module):
    """Return the framework's part of the backends that a module is in, or nothing."""
    inside = ".".join(module.split(".")[1:3])
    return inside if inside in OWN_FRAMEWORKS else ""


@cache
def imported_by(path):
    """Return the full names of the modules that a file imports, on whatever level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # what is imported may be a module itself
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & FILES.keys()) or {node.module}
    return found
