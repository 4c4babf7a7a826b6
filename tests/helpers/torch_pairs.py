"""The same tiny weights in transformers' GPT-J and in ours, for tests of PyTorch's tools."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers

import gptj

SIZES = {"n_layer": 2, "n_embd": 32, "n_head": 4, "rotary_dim": 4, "n_positions": 64}
TOKENS = {"vocab_size": 96, "bos_token_id": 0, "eos_token_id": 95, "pad_token_id": 0}
CLASSES = {
    "causal_lm": "GPTJForCausalLM",
    "sequence_classification": "GPTJForSequenceClassification",
    "question_answering": "GPTJForQuestionAnswering",
    "base": "GPTJModel",
}
TRAINING = {
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
}
"""Arguments of every trainer: each step is logged, nothing is saved."""

_temporary = TemporaryDirectory(prefix="gptj-torch-tools-")


@cache
def folder(head="causal_lm", tied=False):
    """Return a folder with a tiny model that transformers wrote."""
    config = transformers.GPTJConfig(
        **SIZES,
        **TOKENS,
        num_labels=2 if head == "question_answering" else 3,
        tie_word_embeddings=tied,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
    )
    torch.manual_seed(0)
    model = getattr(transformers, CLASSES[head])(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    path = Path(_temporary.name) / f"{head}-{tied}"
    model.save_pretrained(path)
    return path


def pair(head="causal_lm", tied=False):
    """Return transformers' model and ours, with the same weights and without dropout."""
    path = folder(head, tied)
    theirs = getattr(transformers, CLASSES[head]).from_pretrained(path).eval()
    return theirs, gptj.load(path, head=head, backend="torch")


def draw(*shape, seed=0):
    """Draw token ids that are neither pads nor ends."""
    return torch.randint(1, 94, shape, generator=torch.Generator().manual_seed(seed))
