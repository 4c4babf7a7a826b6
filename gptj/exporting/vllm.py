"""vLLM: a folder as its GPT-J reads it, with an output matrix of its own."""

import os
from pathlib import Path
from typing import Any, ClassVar, Final

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
        return VLLMRunner(folder, source.dtype, source.config.n_positions)

    def usage(self, source: Source) -> str:
        """Return the command of the server."""
        return USAGE.format(
            dtype=source.dtype,
            prompt=f'"{example.PROMPT}"' if source.has_tokenizer else "[1, 2, 3]",
            no_tokenizer="" if source.has_tokenizer else " --skip-tokenizer-init",
        )


class VLLMRunner(Runner):
    """vLLM in this process; it returns log-probabilities of the next token."""

    sides = ()
    every_position = False

    def __init__(self, folder: Path, dtype: str, context: int) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        self.model = LLM(
            str(folder),
            dtype=dtype,
            max_model_len=context,
            max_logprobs=-1,
            enforce_eager=True,
            skip_tokenizer_init=True,
            generation_config="vllm",
        )

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return the log-probabilities of the token after each sequence."""
        found = self._generated(ids, max_tokens=1, logprobs=-1)
        rows = [row.outputs[0].logprobs[0] for row in found]
        values = [[row[token].logprob for token in range(len(row))] for row in rows]
        return {"log_probs": np.array(values)[:, None]}

    def greedy(self, ids: Ints, count: int) -> Ints:
        """Return what vLLM generates."""
        found = self._generated(ids, max_tokens=count, ignore_eos=True)
        return np.array([list(row.outputs[0].token_ids) for row in found])

    def close(self) -> None:
        """End its engine."""
        del self.model

    def _generated(self, ids: Ints, **options: Any) -> Any:
        from vllm import SamplingParams

        settings = SamplingParams(temperature=0, detokenize=False, **options)
        prompts = [{"prompt_token_ids": row} for row in ids.tolist()]
        return self.model.generate(prompts, settings, use_tqdm=False)
