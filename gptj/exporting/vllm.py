"""vLLM: a folder as its GPT-J reads it, with an output matrix of its own."""

from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.model.config import GPTJConfig
from gptj.spec.params import EMBEDDING, LM_HEAD

USAGE: Final = """    vllm serve . --dtype {dtype} --generation-config vllm{no_tokenizer}

then, from another terminal:

    curl http://localhost:8000/v1/completions -H 'Content-Type: application/json' \\
        -d '{{"model": ".", "prompt": {prompt}, "max_tokens": 20, "temperature": 0}}'

Say the dtype: without it vLLM takes bfloat16 for weights in float32.
"""


class VLLM(Target):
    """A checkpoint in safetensors, never tied: vLLM's GPT-J asserts that it is not."""

    name = "vllm"
    summary = "vLLM, a server"
    dtypes = ("float32", "bfloat16", "float16")
    runtime: ClassVar = {"vllm": "vllm"}

    def write(self, source: Source, folder: Path) -> None:
        """Write the checkpoint."""
        content = {**source.config.to_dict(), "tie_word_embeddings": False}
        tensors = source.tensors
        if LM_HEAD not in tensors:
            tensors = {**tensors, LM_HEAD: tensors[EMBEDDING]}
        source.save(folder, GPTJConfig.from_dict(content), tensors=tensors)

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the folder in vLLM."""
        return VLLMRunner(folder, source)

    def usage(self, source: Source) -> str:
        """Return the command of the server."""
        return USAGE.format(
            dtype=source.dtype,
            prompt=f'"{example.PROMPT}"' if source.has_tokenizer else "[1, 2, 3]",
            no_tokenizer="" if source.has_tokenizer else " --skip-tokenizer-init",
        )


class VLLMRunner(Runner):
    """vLLM in this process."""

    sides = ()

    def __init__(self, folder: Path, source: Source) -> None:
        from gptj.backends.vllm.engine import Engine, cache_bytes  # needs vllm

        config = source.config
        self.engine = Engine(folder, config.n_positions, cache_bytes(config), source.dtype)

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return the logits, (B, T, V)."""
        return {"logits": np.stack(self.engine.all_logits(list(ids)))}

    def greedy(self, ids: Ints, count: int) -> Ints:
        """Return what vLLM generates."""
        new: list[list[int]] = [[] for _ in ids]
        for row, token, _ in self.engine.drawn(list(ids), max_tokens=count):
            new[row].append(token)
        return np.array(new)

    def close(self) -> None:
        """End its engine."""
        del self.engine
