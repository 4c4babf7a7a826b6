"""The folder that vLLM reads: a checkpoint in float32, whose output matrix is its own."""

from pathlib import Path
from typing import Final

from gptj.checkpoint.folder import CONFIG_NAME
from gptj.checkpoint.formats import FORMATS
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.tensors import Tensors
from gptj.system.atomic import write_text

FORM: Final = {"form": 1}
"""What a written folder depends on besides the model."""


def write_model(folder: Path, config: GPTJConfig, params: Tensors) -> None:
    """Write the causal language model into a folder.

    It is never tied: vLLM's GPT-J cannot be. Its context is one token longer, because vLLM computes
    the logits of a text only if a token more would fit.
    """
    changes = {"tie_word_embeddings": False, "n_positions": config.n_positions + 1}
    written = GPTJConfig.from_dict({**config.to_dict(), **changes})
    written.architectures, written.dtype = [find_head("causal_lm").class_name], "float32"
    untied = {**params, LM_HEAD: params.get(LM_HEAD, params[EMBEDDING])}
    form = FORMATS["safetensors"]
    form.write(folder / form.whole, untied, "causal_lm")
    write_text(folder / CONFIG_NAME, written.to_json_string())
