"""TensorFlow's SavedModel, with signatures for outputs and for text."""

from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.exporting.texts import ENDED
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS

USAGE: Final = """```python
import tensorflow as tf
{imports}
{ids}ids = tf.constant([ids])
model = tf.saved_model.load(".")
inputs = {{"input_ids": ids, "attention_mask": tf.ones_like(ids)}}
print({{name: value.shape for name, value in model.signatures["serve"](**inputs).items()}})
{text}```
"""

TEXT: Final = 'model.signatures["generate"](**inputs)["sequences"][0].numpy().tolist()'

SERVING: Final = """
`serve` takes any batch and length, padded on either side.{about} TensorFlow Serving takes the
folder as a version of a model:

    mkdir -p models/gptj && cp -r . models/gptj/1
    tensorflow_model_server --rest_api_port=8501 --model_name=gptj \\
        --model_base_path=$PWD/models/gptj
"""

ABOUT_TEXT: Final = (
    " `generate` appends the {count} most likely tokens, up to an end token, to prompts that are "
    "padded on the left."
)

NEW_TOKENS: Final = 64
"""Tokens that the signature for text appends, where the context has twice as many."""


class SavedModel(Target):
    """What ``model.export`` of the backend tf writes."""

    name = "saved_model"
    backend = "tf"
    summary = "TensorFlow and TensorFlow Serving"
    heads = tuple(HEADS)
    dtypes = ("float32", "bfloat16", "float16")
    writers: ClassVar = {"tensorflow": "tensorflow", "keras": "keras"}
    runtime: ClassVar = {"tensorflow": "tensorflow"}

    def write(self, source: Source, folder: Path) -> None:
        """Export the model of the backend tf."""
        model: Any = source.build("tf")
        options = generate_options(source.config) if source.head == "causal_lm" else None
        model.export(folder, generate=options)

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the folder in TensorFlow."""
        return SavedModelRunner(folder)

    def usage(self, source: Source) -> str:
        """Return a program for TensorFlow."""
        is_text = source.head == "causal_lm"
        about = ABOUT_TEXT.format(count=new_tokens(source.config)) if is_text else ""
        text = example.shown(source, TEXT) if is_text else ""
        lines = {"imports": example.imports(source), "ids": example.ids(source), "text": text}
        return USAGE.format(**lines) + SERVING.format(about=about)


class SavedModelRunner(Runner):
    """The signatures of a SavedModel."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self.tf = tf
        self.loaded = tf.saved_model.load(str(folder))

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return what the signature `serve` does."""
        return self._call("serve", ids, mask)

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Return the beginning of what the signature `generate` does."""
        if "generate" not in self.loaded.signatures:
            return None
        found = self._call("generate", ids, np.ones_like(ids))["sequences"]
        return with_ends(found[:, ids.shape[1] :], count)

    def _call(self, name: str, ids: Ints, mask: Ints) -> dict[str, Any]:
        inputs = {"input_ids": ids, "attention_mask": mask}
        tensors = {key: self.tf.constant(array, self.tf.int32) for key, array in inputs.items()}
        found = self.loaded.signatures[name](**tensors)
        return {key: np.asarray(value) for key, value in found.items()}


def new_tokens(config: GPTJConfig) -> int:
    """Return how many tokens the signature for text appends."""
    return min(NEW_TOKENS, config.n_positions // 2)


def generate_options(config: GPTJConfig) -> dict[str, Any]:
    """Return the options of the signature for text."""
    return {"max_new_tokens": new_tokens(config), "do_sample": False, "num_beams": 1}


def with_ends(found: Ints, count: int) -> Ints:
    """Return the first `count` tokens of texts that all may have ended before."""
    return np.pad(
        found[:, :count], ((0, 0), (0, max(0, count - found.shape[1]))), constant_values=ENDED
    )
