"""CTranslate2's own form: weights in the order of its engine, and the tokenizer's vocabulary."""

import logging
import os
import sys
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from tokenizers import Tokenizer

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.exporting.texts import ENDED
from gptj.system.processor import multiplies_in

USAGE: Final = """```python
import json
import ctranslate2
<imports>

<ids>
words = json.load(open("vocabulary.json", encoding="utf-8"))
generator = ctranslate2.Generator(".", compute_type="{compute}")
prompt = [words[token] for token in ids]
(result,) = generator.generate_batch([prompt], max_length=20, include_prompt_in_result=False)
<shown result.sequences_ids[0]>
```
"""

ABOUT_INT8: Final = """
On a processor without VNNI CTranslate2's int8 matmul saturates, which costs most of the precision
that eight bits have. Set `CT2_USE_MKL=1` before Python starts: the products are exact then.
"""

EXACT: Final = "CT2_USE_MKL"
"""The environment variable by which CTranslate2 takes another library, read when it is imported."""

log = logging.getLogger("gptj")


class CTranslate2(Target):
    """The causal language model as a folder of CTranslate2."""

    name = "ctranslate2"
    summary = "CTranslate2 on a CPU"
    dtypes = ("float32", "bfloat16", "float16")
    quantizations = ("int8",)
    writers: ClassVar = {"ctranslate2": "ctranslate2"}
    runtime: ClassVar = {"ctranslate2": "ctranslate2"}

    def write(self, source: Source, folder: Path) -> None:
        """Write the weights in the source's dtype or in int8, to be computed in float32."""
        if source.quantize:
            _ask_for_exact_products()
        from gptj.backends.ctranslate2.conversion import write_model

        tokens, kind = _tokens(folder), _compute_type(source)
        write_model(folder, source.config, source.tensors, tokens, quantization=kind)

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the folder in CTranslate2."""
        return CTranslate2Runner(folder, source)

    def usage(self, source: Source) -> str:
        """Return a program for CTranslate2."""
        about = ABOUT_INT8 if source.quantize else ""
        page = USAGE.format(compute=_compute_type(source) or "float32")
        return example.filled(page, source) + about


class CTranslate2Runner(Runner):
    """A generator of CTranslate2."""

    def __init__(self, folder: Path, source: Source) -> None:
        from gptj.backends.ctranslate2.conversion import fitted_vocabulary  # needs ctranslate2
        from gptj.backends.ctranslate2.forward import open_folder

        self.generator = open_folder(folder, _compute_type(source) or "float32")
        self.tokens = fitted_vocabulary(_tokens(folder), source.config.vocab_size)

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Run the texts without their padding."""
        from gptj.backends.ctranslate2.forward import logits_at

        return {"logits": logits_at(self.generator, ids, mask, np.arange(ids.shape[1]))}

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Let CTranslate2's own loop continue the prompts."""
        prompts = [[self.tokens[token] for token in row] for row in ids]
        results = self.generator.generate_batch(
            prompts, max_length=count, include_prompt_in_result=False, return_end_token=True
        )
        found = np.full((len(ids), count), ENDED)
        for row, result in zip(found, results, strict=True):
            new = result.sequences_ids[0]
            row[: len(new)] = new
        return found


def _tokens(folder: Path) -> dict[int, str]:
    """Return the tokens of a folder's tokenizer by id; none where it has no tokenizer."""
    path = folder / "tokenizer.json"
    ids = Tokenizer.from_file(str(path)).get_vocab() if path.is_file() else {}
    return {number: token for token, number in ids.items()}


def _compute_type(source: Source) -> str | None:
    """Return how quantized weights are stored and computed with, None for others."""
    return f"{source.quantize}_float32" if source.quantize else None


def _ask_for_exact_products() -> None:
    """Let int8 be measured with exact products, or say that it is not."""
    if multiplies_in("int8") or os.environ.get(EXACT):
        return
    if "ctranslate2" in sys.modules:
        log.warning(
            "CTranslate2's int8 matmul saturates on this processor, and is measured like that. "
            "Set %s=1 before Python starts for exact products.",
            EXACT,
        )
    else:
        os.environ[EXACT] = "1"
