"""vLLM in this process: the logits of texts, and its own loop, greedy and token by token."""

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.errors import UnsupportedFeature
from gptj.spec.config import GPTJConfig
from gptj.system.memory import free_bytes

Array = npt.NDArray[Any]

IN_PROCESS: Final = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""The environment variable by which vLLM starts another process for its engine, or does not."""


TEXTS: Final = 64
"""Texts that are computed at once, where memory allows; the others wait."""

BLOCK: Final = 128
"""Tokens that share a piece of vLLM's cache."""


def check_width(config: GPTJConfig) -> None:
    """Refuse heads of a width that vLLM's attention for CPUs does not have.

    Raises:
        UnsupportedFeature: naming those it has.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    accepted = CPUAttentionBackend.get_supported_head_sizes()
    if config.head_dim not in accepted:
        raise UnsupportedFeature(
            f"vLLM has no heads of {config.head_dim} numbers, only of "
            f"{', '.join(map(str, accepted))}. Load the model in another backend."
        )


def cache_bytes(config: GPTJConfig) -> int:
    """Return the memory for keys and values: of many texts, within a quarter of what is free.

    It always holds two texts as long as the context, in blocks of vLLM's.
    """
    token = 2 * config.n_layer * config.n_embd * np.dtype(np.float32).itemsize
    text = token * (config.n_positions + 1 + BLOCK)
    return max(2 * text, min(TEXTS * text, free_bytes() // 4))


class Engine:
    """A model in vLLM."""

    def __init__(
        self, folder: Path, context: int, cache_bytes: int, dtype: str = "float32"
    ) -> None:
        """Load a folder; `context` tokens fit, and keys and values take `cache_bytes` in all."""
        os.environ.setdefault(IN_PROCESS, "0")
        from vllm import LLM

        self.model = LLM(
            str(folder),
            dtype=dtype,
            max_model_len=context,
            max_logprobs=-1,
            logprobs_mode="raw_logits",
            skip_tokenizer_init=True,
            generation_config="vllm",  # and none of the folder's
            enforce_eager=True,  # else it is compiled for minutes
            enable_prefix_caching=False,
            kv_cache_memory_bytes=cache_bytes,  # else it takes most of the machine's memory
        )
        self.numbers = count()

    def last_logits(self, texts: Sequence[Array]) -> list[Array]:
        """Return the logits after every text, (V,) each."""
        found = self._run(texts, max_tokens=1, logprobs=-1)
        return [_rows(output.outputs[0].logprobs)[0] for output in found]

    def all_logits(self, texts: Sequence[Array]) -> list[Array]:
        """Return the logits at all positions of every text, (L, V) each."""
        found = self._run(texts, max_tokens=1, logprobs=-1, prompt_logprobs=-1)
        return [
            np.stack([*_rows(output.prompt_logprobs)[1:], *_rows(output.outputs[0].logprobs)])
            for output in found
        ]

    def drawn(self, texts: Sequence[Array], **options: Any) -> Iterator[tuple[int, int, float]]:
        """Yield rows, their likeliest next tokens and the logits of these, as they are computed."""
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA
        engine, settings = self.model.llm_engine, _settings(logprobs=0, output_kind=kind, **options)
        rows = {f"gptj-{next(self.numbers)}": row for row in range(len(texts))}
        for name, text in zip(rows, texts, strict=True):
            engine.add_request(name, _prompt(text), settings)
        waiting = set(rows)
        try:
            while waiting:
                for output in engine.step():
                    new = output.outputs[0]
                    for token, logits in zip(new.token_ids, _rows(new.logprobs), strict=True):
                        yield rows[output.request_id], int(token), float(logits[token])
                    if output.finished:
                        waiting.discard(output.request_id)
        finally:
            engine.abort_request(list(waiting))

    def _run(self, texts: Sequence[Array], **options: Any) -> Any:
        prompts = [_prompt(text) for text in texts]
        return self.model.generate(prompts, _settings(**options), use_tqdm=False)


def _prompt(text: Array) -> dict[str, list[int]]:
    return {"prompt_token_ids": text.tolist()}


def _settings(**options: Any) -> Any:
    from vllm import SamplingParams

    options = {"temperature": 0, "detokenize": False, "flat_logprobs": True, **options}
    return SamplingParams(ignore_eos=True, **options)


def _rows(found: Any) -> list[Array]:
    """Return the logits of every position by token; NaN where they were not asked for."""
    tokens = np.asarray(found.token_ids, np.int64)
    values = np.asarray(found.logprobs, np.float32)
    rows = []
    for start, end in zip(found.start_indices, found.end_indices, strict=True):
        row = np.full(1 + tokens[start:end].max(initial=0), np.nan, np.float32)
        row[tokens[start:end]] = values[start:end]
        rows.append(row)
    return rows
