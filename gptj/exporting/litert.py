"""LiteRT: a file for outputs, and one for text, with built-in operators alone."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import numpy as np

from gptj.errors import UnsupportedFeature
from gptj.exporting import example
from gptj.exporting.saved_model import generate_options, new_tokens, with_ends
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.spec.heads import HEADS

OUTPUTS: Final = "model.tflite"
TEXT: Final = "generate.tflite"

MOST_BYTES: Final = 2**31
"""Larger files have another layout, which has not been tried."""

USAGE: Final = """```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter
{imports}
{ids}ids = np.array([ids], np.int32)
run = Interpreter("{file}").get_signature_runner()
output = run(input_ids=ids, attention_mask=np.ones_like(ids))
{shown}```

Every call may have another batch and length.{about}
"""

ABOUT_TEXT: Final = """ `generate.tflite` appends the {count} most likely tokens, up to an end
token, to prompts that are padded on the left; `model.tflite` has the same inputs, padded on either
side, and returns logits."""


class LiteRT(Target):
    """What the backend tf and TensorFlow's converter write."""

    name = "litert"
    summary = "LiteRT, on phones and computers"
    backend = "tf"
    heads = tuple(HEADS)
    writers: ClassVar = {"tensorflow": "tensorflow", "keras": "keras"}
    runtime: ClassVar = {"ai-edge-litert": "ai_edge_litert"}

    def check(self, source: Source) -> None:
        """Refuse what a file cannot hold."""
        size = sum(tensor.nbytes for tensor in source.tensors.values())
        if size >= MOST_BYTES:
            raise UnsupportedFeature(
                f"A file of LiteRT holds 2 GiB; the weights have {size / 2**30:.1f} GiB in "
                "float32. saved_model and onnx have no such limit."
            )

    def write(self, source: Source, folder: Path) -> None:
        """Convert the model, and of a language model its generation."""
        model: Any = source.build("tf")
        model.export(str(folder / OUTPUTS), format="litert")
        if source.head != "causal_lm":
            return
        with TemporaryDirectory(prefix="gptj-export-") as place:
            model.export(place, generate=generate_options(source.config))
            (folder / TEXT).write_bytes(_converted(place))

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the files in LiteRT."""
        return LiteRTRunner(folder)

    def usage(self, source: Source) -> str:
        """Return a program for LiteRT."""
        lines = {"imports": example.imports(source), "ids": example.ids(source)}
        if source.head != "causal_lm":
            shown = "print({name: value.shape for name, value in output.items()})\n"
            return USAGE.format(file=OUTPUTS, shown=shown, about=" Pad on either side.", **lines)
        about = ABOUT_TEXT.format(count=new_tokens(source.config))
        shown = example.shown(source, 'output["sequences"][0].tolist()')
        return USAGE.format(file=TEXT, shown=shown, about=about, **lines)

    def memory_bytes(self, source: Source) -> int:
        """Return what both files take."""
        return 2 * super().memory_bytes(source)


class LiteRTRunner(Runner):
    """The signatures of the files."""

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.outputs_of = Interpreter(str(folder / OUTPUTS)).get_signature_runner()
        is_text = (folder / TEXT).exists()
        text = Interpreter(str(folder / TEXT)) if is_text else None
        self.text_of = text and text.get_signature_runner()

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return what the first file does."""
        return _call(self.outputs_of, ids, mask)

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Return the beginning of what the second file does."""
        if self.text_of is None:
            return None
        found = _call(self.text_of, ids, np.ones_like(ids))["sequences"]
        return with_ends(found[:, ids.shape[1] :], count)


def _call(run: Callable[..., Any], ids: Ints, mask: Ints) -> dict[str, Any]:
    found: dict[str, Any] = run(
        input_ids=ids.astype(np.int32), attention_mask=mask.astype(np.int32)
    )
    return found


def _converted(folder: str) -> bytes:
    """Return the signature `generate` as a file: asked for two, the converter keeps one."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["generate"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content: bytes = converter.convert()
    return content
