"""The training loop: workers compute gradients, Muon and AdamW the updates."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from batches import BATCH_TOKENS
from compact import Compact
from gptj import GPTJConfig, GPTJForCausalLM
from muon import Muon
from objective import full_loss, piece_gradients
from saved import CONFIG

SEED: Final = 6

STEPS: Final = (1_700, 800)
"""Steps of the two stages: files, then files mixed with single definitions."""

WARM_UP: Final = 100
"""Steps until the learning rates reach their peak, in each stage."""

COOL_DOWN: Final = 0.45
"""Share of the first stage in which the learning rates fall to zero, linearly."""

RESTART: Final = 0.4
"""Share of the peak learning rates at which the second stage starts, before it falls to zero."""

UNSAMPLED: Final = 0.05
"""Share of a stage's steps, at its end, with the softmax over all rows, without sampling bias."""

PIECE_TOKENS: Final = 1_024
"""Tokens that a worker takes at a time, so that a busy core causes little delay."""

ADAM_RATE: Final = 0.006
MUON_RATE: Final = 0.03
"""Peak learning rates: of embedding, norms and biases, and of the matrices."""


class Trainer:
    """A model of the frequent tokens, its optimizers and its workers."""

    def __init__(self, compact: Compact, stages: tuple[int, int], workers: int) -> None:
        self.compact, self.stages = compact, stages
        sizes = {**CONFIG.to_dict(), "vocab_size": compact.rows, "torch_dtype": None}
        self.model = GPTJForCausalLM(GPTJConfig.from_dict(sizes), seed=SEED)
        self.parameters = list(self.model.parameters())
        self.optimizers = make_optimizers(self.model)
        # One thread each: threads of a kernel would wait for each other at every matmul
        self.workers = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))

    def step(self, step: int, rows: Tensor) -> float:
        """Take one step on (sequences, length + 1) tokens and return the mean loss."""
        pieces = rows.split(max(1, PIECE_TOKENS // (rows.shape[1] - 1)))
        done, steps = self.within_stage(step)
        sample = done < (1 - UNSAMPLED) * steps
        keys = [step * BATCH_TOKENS + piece if sample else None for piece in range(len(pieces))]
        results = list(self.workers.map(self._piece, pieces, keys))
        for index, parameter in enumerate(self.parameters):
            parameter.grad = sum(gradients[index] for _, gradients in results) / len(pieces)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self.rate(step)
            optimizer.step()
        return sum(loss for loss, _ in results) / len(pieces)

    def within_stage(self, step: int) -> tuple[int, int]:
        """Return the steps of this stage: those before `step`, and all."""
        first, second = self.stages
        return (step, first) if step < first else (step - first, second)

    def rate(self, step: int) -> float:
        """Return the factor of the learning rates: up, constant and down, then down again."""
        done, steps = self.within_stage(step)
        if step != done:
            return RESTART * min((done + 1) / WARM_UP, (steps - done) / steps)
        return min(1.0, (done + 1) / WARM_UP, (steps - done) / (COOL_DOWN * steps))

    def held_out_loss(self, rows: Tensor, log_share: Tensor) -> float:
        """Return the mean loss over the whole vocabulary, in nats per token."""
        losses = self.workers.map(partial(full_loss, self.model), rows.split(2), log_share.split(2))
        sizes = [len(piece) for piece in rows.split(2)]
        total = sum(loss.item() * size for loss, size in zip(losses, sizes, strict=True))
        return total / sum(sizes)

    def _piece(self, piece: Tensor, key: int | None) -> tuple[float, tuple[Tensor, ...]]:
        return piece_gradients(self.model, self.parameters, piece, key)

    def start(self) -> None:
        """Initialise the bias with the frequency of each row."""
        with torch.no_grad():
            self.model.lm_head.bias.copy_(torch.from_numpy(np.log(self.compact.frequency)))

    def save(self, path: Path, step: int) -> None:
        """Write the state of the training, whole or not at all."""
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        temporary = path.with_suffix(".part")
        torch.save(
            {"step": step, "model": self.model.state_dict(), "optimizers": states}, temporary
        )
        temporary.replace(path)

    def resume(self, path: Path) -> int:
        """Load the state that `save` wrote and return the next step."""
        saved = torch.load(path)
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return int(saved["step"])


def make_optimizers(model: GPTJForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    table = {"params": [model.transformer.wte.weight], "weight_decay": 0.1}
    rest = {"params": vectors, "weight_decay": 0.0}
    adam = torch.optim.AdamW([table, rest], lr=ADAM_RATE, betas=(0.9, 0.95), fused=True)
    muon = Muon(matrices, lr=MUON_RATE, weight_decay=0.1)
    for group in (*adam.param_groups, *muon.param_groups):
        group["peak"] = group["lr"]
    return [adam, muon]
