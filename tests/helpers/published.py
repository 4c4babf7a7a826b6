"""The published checkpoints in miniature, in a cache like that of huggingface_hub.

There is one under every name that the published examples load, and the 6B has the form in which it
was published. All hold the same weights, as far as their heads agree.
"""

import hashlib
import json

import numpy as np

import gptj
from gptj.checkpoint import pytorch_bin, pytorch_bin_writer
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor

GPTJ_6B = "EleutherAI/gpt-j-6B"
TINY_RANDOM = "hf-internal-testing/tiny-random-gptj"
TINY_CLASSIFIER = "ydshieh/tiny-random-gptj-for-sequence-classification"
PLACEHOLDER = "gptj"

PUBLISHED = {
    "activation_function": "gelu_new",
    "architectures": ["GPTJForCausalLM"],
    "attn_pdrop": 0.0,
    "bos_token_id": 50256,
    "embd_pdrop": 0.0,
    "eos_token_id": 50256,
    "gradient_checkpointing": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gptj",
    "n_embd": 4096,
    "n_head": 16,
    "n_inner": None,
    "n_layer": 28,
    "n_positions": 2048,
    "resid_pdrop": 0.0,
    "rotary": True,
    "rotary_dim": 64,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {
        "text-generation": {"do_sample": True, "max_length": 50, "temperature": 1.0}
    },
    "tie_word_embeddings": False,
    "tokenizer_class": "GPT2Tokenizer",
    "transformers_version": "4.18.0.dev0",
    "use_cache": True,
    "vocab_size": 50400,
}
"""The configuration that was published with the 6B."""

CONFIG = PUBLISHED | {
    "initializer_range": 0.3,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 128,
    "rotary_dim": 4,
}
"""The fields of the 6B's own ``config.json``, small and with weights far from 0."""


def fill(cache):
    """Write all that the names stand for into an empty cache folder."""
    config = gptj.GPTJConfig.from_dict(CONFIG)
    for revision, dtype in (("main", "float32"), ("float16", "float16")):
        folder = snapshot(cache, GPTJ_6B, revision)
        gptj.init(config, folder, dtype=dtype, format="bin")
        make_old(folder)
    gptj.init(config, snapshot(cache, TINY_RANDOM))
    gptj.init(config, snapshot(cache, TINY_CLASSIFIER), head="sequence_classification")
    gptj.init(config, snapshot(cache, PLACEHOLDER), format="msgpack")


def root_of(cache, repository):
    """Return the folder of a repository in a cache."""
    return cache / f"models--{repository.replace('/', '--')}"


def snapshot(cache, repository, revision="main"):
    """Return the folder of a revision in a cache, which then lists it."""
    root = root_of(cache, repository)
    commit = hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(commit, encoding="utf-8")
    return root / "snapshots" / commit


def make_old(folder):
    """Give a folder what the 6B has: its fields, and the causal masks among the weights."""
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    path = folder / "pytorch_model.bin"
    tensors = {
        name: LazyTensor.of(tensor.read().copy()) for name, tensor in pytorch_bin.read(path).items()
    }
    mask = np.tri(CONFIG["n_positions"], dtype=np.uint8)[None, None]  # (1, 1, N, N)
    for layer in range(CONFIG["n_layer"]):
        name = f"transformer.h.{layer}.attn"
        tensors[f"{name}.bias"] = LazyTensor.of(mask)
        tensors[f"{name}.masked_bias"] = LazyTensor.of(np.array(-1e9, np.float32))
    pytorch_bin_writer.write(path, tensors)


def folder_of(cache, repository, revision="main"):
    """Return where a revision lies in a cache."""
    root = root_of(cache, repository)
    return root / "snapshots" / (root / "refs" / revision).read_text(encoding="utf-8")


def oracle(folder, head="causal_lm", **inputs):
    """Run a checkpoint in float64; a head that it has not is drawn as the models draw theirs."""
    checkpoint = open_checkpoint(folder)
    config = gptj.GPTJConfig.from_dict(checkpoint.config())
    weights = match_parameters(config, head, checkpoint.tensors, str(folder))
    return forward(config, weights, head=head, **inputs)


def negative_log_likelihood(logits, targets):
    """Return the mean of -log softmax(logits)[target] over the rows of (N, V), in float64."""
    logits = np.asarray(logits, np.float64)
    largest = logits.max(axis=-1, keepdims=True)
    norms = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=-1))  # (N,)
    return float(np.mean(norms - logits[np.arange(len(logits)), np.asarray(targets)]))
