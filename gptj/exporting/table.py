"""The targets that there are."""

from typing import Final

from gptj.errors import ArgumentError, choices, suggest
from gptj.exporting.aoti import AOTI
from gptj.exporting.ctranslate2 import CTranslate2
from gptj.exporting.ggml import Ggml
from gptj.exporting.litert import LiteRT
from gptj.exporting.onnx import Onnx
from gptj.exporting.openvino import OpenVINO
from gptj.exporting.saved_model import SavedModel
from gptj.exporting.stablehlo import StableHLO
from gptj.exporting.target import Target
from gptj.exporting.vllm import VLLM

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Onnx(),
        OpenVINO(),
        CTranslate2(),
        SavedModel(),
        LiteRT(),
        StableHLO(),
        AOTI(),
        VLLM(),
        Ggml(),
    )
}
"""Name -> target, in the order in which they are listed."""


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises:
        ArgumentError: for an unknown name, listing the accepted ones.
    """
    if name not in TARGETS:
        hint = suggest(str(name), TARGETS)
        raise ArgumentError(f"Unknown target {name!r}.{hint} Accepted are {choices(TARGETS)}.")
    return TARGETS[name]
