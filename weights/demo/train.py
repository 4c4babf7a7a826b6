"""Train the demo model: ``python weights/demo/train.py --out runs/demo``.

The first stage reads files, the second mixes them with single definitions. The folder receives
manifest.json, loss.csv, ``state.pt`` to resume from, and the model as it ships, after every
`SAVE_EVERY` steps and at the end.
"""

from pathlib import Path
from typing import Final

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import trange

from batches import BATCH_TOKENS, LONG, rows_at
from compact import Compact
from data import read_library, split, token_stream, write_manifest
from definitions import definitions, mixed_rows
from gptj import GPTJTokenizer
from log import Log
from saved import CONFIG, save_model
from trainer import SEED, STEPS, Trainer

Tokens = npt.NDArray[np.int64]

WATCHED: Final = 16
"""The curve uses one of so many held-out sequences; the model card's result uses all."""

LOG_EVERY: Final = 20
SAVE_EVERY: Final = 200
"""Steps between two lines of the log, and between two checkpoints with the held-out loss."""


@click.command()
@click.option("--steps", default=STEPS[0], show_default=True, help="Of the first stage.")
@click.option("--more-steps", default=STEPS[1], show_default=True, help="Of the second.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--workers", default=2, show_default=True, help="Threads, one for each core.")
@click.option("--resume", is_flag=True, help="Resume from the checkpoint in the folder.")
def main(steps: int, more_steps: int, out: Path, workers: int, resume: bool) -> None:
    """Train the demo model."""
    torch.set_num_threads(1)  # more threads would wait for each other on shared cores
    train, heads, held_out = prepare(out)
    compact = Compact.of(train, CONFIG.vocab_size)
    trainer = Trainer(compact, (steps, more_steps), workers)
    first = trainer.resume(out / "state.pt") if resume else 0
    log, watched = Log(out / "loss.csv", first), watched_rows(held_out, compact)
    if not resume:
        trainer.start()
        log.write(0, 0, None, trainer.held_out_loss(*watched))
    files, defined = (torch.from_numpy(compact.row_of[tokens]) for tokens in (train, heads))
    starts, losses, total = np.flatnonzero(heads == CONFIG.eos_token_id) + 1, [], steps + more_steps
    for step in trange(first, total, initial=first, total=total, disable=None):
        if step < steps:
            rows = rows_at(files, step, steps, SEED)
        else:
            rows = mixed_rows(files, defined, starts, step, SEED)
        losses.append(trainer.step(step, rows))
        done = step + 1
        saves = done % SAVE_EVERY == 0 or done in (steps, total)
        if saves:
            trainer.save(out / "state.pt", done)
            save_model(compact.expand(trainer.model.state_dict()), out / "model")
        if saves or done % LOG_EVERY == 0:
            held_out_loss = trainer.held_out_loss(*watched) if saves else None
            log.write(done, done * BATCH_TOKENS, float(np.mean(losses)), held_out_loss)
            losses = []


def prepare(out: Path) -> tuple[Tokens, Tokens, Tokens]:
    """Write the manifest; return the tokens of training, of its definitions, and held out."""
    files = read_library()
    sources = split(files)
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(sources, out / "manifest.json")
    tokenizer = GPTJTokenizer()
    train, held_out = (
        [files[s.path] for s in sources if s.held_out == side] for side in (False, True)
    )
    heads = [head for text in train for head in definitions(text.decode())]
    return tuple(token_stream(texts, tokenizer) for texts in (train, heads, held_out))


def watched_rows(held_out: Tokens, compact: Compact) -> tuple[Tensor, Tensor]:
    """Return some held-out tokens as rows and as log shares, each (sequences, LONG + 1)."""
    tokens = torch.from_numpy(held_out).unfold(0, LONG + 1, LONG * WATCHED)
    share = torch.from_numpy(np.log(compact.share)).float()
    return torch.from_numpy(compact.row_of)[tokens], share[tokens]


if __name__ == "__main__":
    main()
