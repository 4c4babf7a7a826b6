"""The model as it ships: its configuration and files."""

import json
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from gptj import GPTJConfig
from gptj.spec.params import parameter_table

CONFIG: Final = GPTJConfig(
    n_positions=512,
    n_embd=128,
    n_layer=7,
    n_head=4,
    rotary_dim=16,
    tie_word_embeddings=True,
    torch_dtype="float32",  # in memory; the file is float16
    architectures=["GPTJForCausalLM"],
)


def save_model(state: dict[str, Tensor], folder: Path) -> None:
    """Write config.json, generation_config.json and the weights in float16."""
    names = parameter_table(CONFIG, "causal_lm")
    tensors = {name: state[name].to(torch.float16).contiguous() for name in names}
    CONFIG.save_pretrained(folder)
    options = {"bos_token_id": CONFIG.bos_token_id, "eos_token_id": CONFIG.eos_token_id}
    text = json.dumps(options, indent=2, sort_keys=True) + "\n"
    (folder / "generation_config.json").write_text(text, encoding="utf-8")
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it private
