"""ggml: one file for ctransformers."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from gptj.checkpoint import ggml_folder, ggml_writer
from gptj.checkpoint.folder import vocabulary_of
from gptj.checkpoint.ggml_blocks import QUANTIZED
from gptj.checkpoint.ggml_file import FORM
from gptj.checkpoint.ggml_writer import GgmlOptions
from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.exporting.texts import ENDED
from gptj.parity.tolerances import Tolerance

USAGE: Final = """```python
from ctransformers import AutoModelForCausalLM
{imports}
{ids}model = AutoModelForCausalLM.from_pretrained(
    "{file}", model_type="gptj", context_length={context}
)
new = model.generate(ids, top_k=1, repetition_penalty=1.0)  # the most likely tokens
{shown}```

Give ids, not text: the tokenizer inside ctransformers finds other tokens than GPT-J's.
"""


class Ggml(Target):
    """The weights and the vocabulary in ggml's form of May 2023."""

    name = "ggml"
    summary = "ctransformers, in one file"
    dtypes = ("float32", "float16")
    quantizations = QUANTIZED
    runtime: ClassVar = {"ctransformers": "ctransformers"}

    def check(self, source: Source) -> None:
        """Refuse what the runtime computes in one way only."""
        ggml_writer.check(source.config, source.tensors, _options(source))

    def write(self, source: Source, folder: Path) -> None:
        """Write the checkpoint, whose file is the runtime's."""
        source.save(folder, format=FORM, ggml=_options(source))

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the file in ctransformers."""
        return GgmlRunner(folder, source.config.n_positions)

    def usage(self, source: Source) -> str:
        """Return a program for ctransformers."""
        return USAGE.format(
            imports=example.imports(source),
            ids=example.ids(source),
            shown=example.shown(source, "ids + [token for token, _ in zip(new, range(20))]"),
            file=ggml_folder.NAME,
            context=source.config.n_positions,
        )

    def tolerance(self, source: Source) -> Tolerance | None:
        """Return what the engine's own rounding explains."""
        if source.quantize:
            return None
        return Tolerance(
            2e-3, "the engine keeps keys and values, and its table of gelu, in float16"
        )


class GgmlRunner(Runner):
    """One sequence at a time, whose last logits can be read."""

    sides = ()
    is_batched = False
    every_position = False

    def __init__(self, folder: Path, context: int) -> None:
        from ctransformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(
            str(folder / ggml_folder.NAME), model_type="gptj", context_length=context
        )

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return the logits after the last token."""
        new = self.model.prepare_inputs_for_generation(ids[0].tolist(), reset=True)
        self.model.eval(new)
        return {"logits": np.array(self.model.logits, np.float32)[None, None]}

    def greedy(self, ids: Ints, count: int) -> Ints:
        """Return what the engine's own loop does."""
        texts = [list(islice(self._generated(row), count)) for row in ids]
        return np.array([[*text, *[ENDED] * (count - len(text))] for text in texts])

    def close(self) -> None:
        """Let go of the file."""
        del self.model

    def _generated(self, ids: Ints) -> Iterator[int]:
        """Yield the most likely tokens; its own default would make repeated ones less likely."""
        found: Iterator[int] = self.model.generate(ids.tolist(), top_k=1, repetition_penalty=1.0)
        return found


def _options(source: Source) -> GgmlOptions:
    return GgmlOptions(source.quantize, vocabulary_of(source.folder))
