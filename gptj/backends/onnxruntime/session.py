"""Sessions of ONNX Runtime."""

from pathlib import Path
from typing import Final

from onnxruntime import InferenceSession

PROVIDERS: Final = ("CPUExecutionProvider",)


def open_session(path: Path) -> InferenceSession:
    """Return a session of a graph, on the CPU."""
    return InferenceSession(str(path), providers=list(PROVIDERS))
