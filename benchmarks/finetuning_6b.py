"""Steps of LoRA on a 6B in bfloat16: how much memory they take.

    gptj init 6b --config 6B --dtype bfloat16
    python benchmarks/finetuning_6b.py 6b --backend torch

Prints a line of JSON: bytes of the checkpoint, anonymous memory at its peak above what the process
had after importing its framework (weights that PyTorch maps from the file are not in it), the most
that was resident at once, the loss and the seconds of every step.
"""

import argparse
import json
import resource
from pathlib import Path
from time import perf_counter

import numpy as np
from peak import Peak

import gptj
from gptj.backends import get_backend
from gptj.spec.update_rule import UpdateRule, split_batch

STEPS, RANK, RATE = 2, 16, 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--length", type=int, default=64)
    given = parser.parse_args()
    backend = get_backend(given.backend)
    ids = np.random.default_rng(0).integers(0, 50257, (1, given.length)).astype(np.int32)
    rows = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    with Peak() as peak:
        model = gptj.load(given.folder, backend=given.backend, dtype="bfloat16").add_lora(RANK)
        if hasattr(model, "gradient_checkpointing_enable"):
            model.gradient_checkpointing_enable()
        trainer = backend.trainer(model, UpdateRule(), "bfloat16")
        steps = [step(trainer, rows, number) for number in range(STEPS)]
    print(
        json.dumps(
            {
                "backend": given.backend,
                "length": given.length,
                "checkpoint": sum(p.stat().st_size for p in given.folder.glob("*.safetensors")),
                "anonymous": peak.bytes,
                "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "losses": [loss for loss, _ in steps],
                "seconds": [round(seconds, 1) for _, seconds in steps],
            }
        )
    )


def step(trainer, rows, number):
    """Do a step; return its loss and its seconds."""
    start = perf_counter()
    loss, _ = trainer.step(split_batch("causal_lm", rows, 1), RATE, number)
    return loss, perf_counter() - start


if __name__ == "__main__":
    main()
