"""Train a LoRA adapter in one framework, and use it in another.

A small adapter is trained on some of Python's documentation in the framework that you name, and
saved as PEFT saves it. Another installed framework loads it: the logits are equal but for rounding,
and so is the text. Then the adapter is merged into the weights, and taken out again.

    python examples/lora_demo.py --backend torch      # or tf, or flax
    python examples/lora_demo.py --backend tf --other flax --epochs 5

It takes less than a minute on two cores, and prints the loss of each epoch, the differences of
logits, and the text that both frameworks write.
"""

from pathlib import Path
from pydoc_data.topics import topics

import click
import numpy as np

import gptj
from gptj.backends import installed_frameworks

LENGTH, BATCH, RATE = 64, 4, 3e-3
PROMPT = 'The "while" statement is used'


def train_torch(model, rows, epochs):
    """Return the loss of each step; `rows` are token ids, (n, T) int32."""
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=RATE), []
    for ids in torch.from_numpy(rows).split(BATCH) * epochs:
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_tf(model, rows, epochs):
    """Return the loss of each epoch; Keras trains the adapter's variables alone."""
    import keras

    model.compile(optimizer=keras.optimizers.AdamW(RATE))
    x = {"input_ids": rows, "labels": rows}
    return model.fit(x, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def train_flax(model, rows, epochs):
    """Return the loss of each step; in JAX the adapter is a separate tree."""
    import jax
    import optax

    optimizer, base, lora = optax.adamw(RATE), model.params, model.params["lora"]

    @jax.jit
    def step(lora, state, ids):
        def loss_of(lora):
            return model(ids, params={**base, "lora": lora}, labels=ids).loss

        loss, gradients = jax.value_and_grad(loss_of)(lora)
        updates, state = optimizer.update(gradients, state, lora)
        return optax.apply_updates(lora, updates), state, loss

    state, losses = optimizer.init(lora), []
    for ids in np.split(rows, len(rows) // BATCH) * epochs:
        lora, state, loss = step(lora, state, ids)
        losses.append(loss)
    model.params = {**base, "lora": lora}
    return losses


TRAIN = {"torch": train_torch, "tf": train_tf, "flax": train_flax}


def compare(model, loaded, ids):
    """Print how far the model with the loaded adapter, and the merged one, are from the first."""

    def logits(model):
        return model.trace(ids, ["lm_head"])["lm_head"]  # a NumPy array in every framework

    trained, other = logits(model), loaded.backend_name
    print(f"{other}: logits differ by at most {np.abs(logits(loaded) - trained).max():.1e}")
    texts = [each.generate_text(PROMPT, max_new_tokens=16) for each in (model, loaded)]
    print(f"{other}: {texts[1]!r}, {'the same' if texts[0] == texts[1] else 'another'} text")
    merged = logits(model.merge_lora())
    print(f"merged: logits differ by at most {np.abs(merged - trained).max():.1e}")
    same = np.array_equal(logits(model.unmerge_lora()), trained)
    print(f"unmerged: logits are {'equal' if same else 'not equal'}, bit for bit")


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder, as gptj.load takes it.")
@click.option("--backend", type=click.Choice(list(TRAIN)), default="torch", help="Trains.")
@click.option("--other", type=click.Choice(list(TRAIN)), help="Loads; by default another one.")
@click.option("--epochs", default=3)
@click.option("--rows", default=40, help="Rows of 64 tokens, a multiple of 4.")
@click.option("--out", type=click.Path(path_type=Path), default="runs/lora_demo")
def main(name: str, backend: str, other: str | None, epochs: int, rows: int, out: Path) -> None:
    """Train an adapter, save it, load it elsewhere, merge and unmerge it."""
    text = "\n".join(topics[name] for name in ("while", "for", "if", "try", "with"))
    ids = np.array(gptj.load_tokenizer(name).encode(text), np.int32)
    ids = ids[: rows * LENGTH].reshape(rows, LENGTH)
    model = gptj.load(name, backend=backend).add_lora(rank=8, alpha=16, targets="all-linear")
    losses = np.reshape(TRAIN[backend](model, ids, epochs), (epochs, -1)).mean(axis=1)
    print(f"{backend}: loss of each epoch", *(f"{loss:.3f}" for loss in losses))
    model.save_lora(out)
    installed = [name for name in installed_frameworks() if name not in (backend, "numpy")]
    loaded = gptj.load(out, backend=other or next(iter(installed), backend))
    compare(model, loaded, ids[:1])


if __name__ == "__main__":
    main()
