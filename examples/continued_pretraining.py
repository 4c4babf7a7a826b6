"""Go on pre-training a model in PyTorch, on sources of Python.

The sources are those of `huggingface_hub`, which comes with this package and which the demo model
has never seen; `--sources` takes any folder. They are tokenised once into a folder that is mapped
into memory, so they may be larger than memory, and packed into rows without padding.

    python examples/continued_pretraining.py
    python examples/continued_pretraining.py --sources ~/my/project --steps 500

The model may be whatever `gptj.load` reads, also shards of mesh-transformer-jax, the form in which
GPT-J was trained. The demo model cannot be written so: the form has no tied embeddings, and heads
by eights. A new model can, from a config.json with "n_head": 8, and learns from nothing:

    gptj init --config config.json --dtype bfloat16 --to mesh ./shards
    python examples/continued_pretraining.py --model ./shards

It takes about two minutes on two cores, and prints losses, the held-out loss before and after, and
the command that writes with the new model.
"""

import math
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import click
import torch
from torch.nn.utils import clip_grad_norm_

import gptj

LENGTH = 256  # tokens of an example; the demo model reads up to 512
PACKAGE = Path(find_spec("huggingface_hub").origin).parent


def tensors(batch):
    """Return the arrays of a batch as PyTorch's, of the same memory."""
    return {name: torch.from_numpy(array) for name, array in batch.items()}


@torch.no_grad()
def held_out_loss(model, data, batches=8) -> float:
    """Return the mean loss of the first batches of some rows."""
    model.eval()
    losses = [model(**tensors(batch)).loss for batch in islice(data.batches(4), batches)]
    model.train()
    return float(torch.stack(losses).mean())


def optimizer_of(model, rate: float, steps: int):
    """Return AdamW, and a schedule: up in a line for a tenth of the steps, down along a cosine."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]  # norms and biases, which do not decay
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))

    def factor(step: int) -> float:
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / steps)  # from 1 to a tenth
        return min((step + 1) / max(1, steps // 10), cosine)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder, as gptj.load takes it.")
@click.option("--sources", type=click.Path(exists=True, path_type=Path), default=PACKAGE)
@click.option("--steps", default=40)
@click.option("--rows", default=2, help="Of a forward and backward pass.")
@click.option("--accumulate", default=4, help="Passes of a step.")
@click.option("--learning-rate", "rate", default=2e-4)
@click.option("--out", type=click.Path(path_type=Path), default="runs/continued_pretraining")
def main(
    name: str, sources: Path, steps: int, rows: int, accumulate: int, rate: float, out: Path
) -> None:
    """Train a model on a folder of Python sources, and save it."""
    torch.manual_seed(0)
    model = gptj.load(name, backend="torch", dtype="float32").train()
    data = gptj.text_dataset(
        str(sources / "**" / "*.py"), length=LENGTH, config=model.config, cache_dir=out / "cache"
    )
    train, held_out = data.split(0.05, seed=0)
    print(f"{len(train)} rows, held-out loss {held_out_loss(model, held_out):.3f}", flush=True)

    optimizer, schedule = optimizer_of(model, rate, steps)
    batches = train.stream(rows, seed=1, drop_last=True)
    for step in range(1, steps + 1):
        total = 0.0
        for batch in islice(batches, accumulate):
            loss = model(**tensors(batch)).loss / accumulate
            loss.backward()  # adds to the gradients of the passes before
            total += loss.item()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 10 == 0 or step == steps:
            print(f"step {step}, loss {total:.3f}", flush=True)
    print(f"step {steps}, held-out loss {held_out_loss(model, held_out):.3f}")
    model.save_pretrained(out / "model")
    print(f"gptj generate --model {out / 'model'} 'def download(url):'")


if __name__ == "__main__":
    main()
