"""Train a language model in JAX: a mesh of devices, a TrainState, Optax and Orbax.

The texts are the topics of Python's own documentation, which the demo model has never seen. The
parameters are divided over the axis "model" of the mesh, and batches over the axis "data".

    python examples/flax_language_model.py
    python examples/flax_language_model.py --steps 150        # resumes from the last checkpoint
    XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
        python examples/flax_language_model.py --data 2       # eight virtual devices, as 2 x 4

It takes about four minutes on two cores, and prints the mesh, the held-out loss before and after,
and some losses between. A checkpoint knows no mesh: a run may resume over another one.
"""

from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import click
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec

import gptj

BATCH = 8  # rows of a step, a multiple of --data
OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.0, 1e-3, 20))
)


def write_topics(folder: Path) -> Path:
    """Write Python's documentation, a file for each topic."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in topics.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def new_state(model, mesh):
    """Return the state before the first step; moments lie where their parameters do."""
    # the model itself keeps no parameters: donation gives their memory away
    state = TrainState.create(apply_fn=model.bind(None), params=model.params, tx=OPTIMIZER)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: x if np.ndim(x) else jax.device_put(x, everywhere), state)


def train_step(state, batch, rng):
    """Return the state after a step, and the loss before it."""
    dropout_rng = jax.random.fold_in(rng, state.step)

    def loss_of(params):
        return state.apply_fn(**batch, params=params, dropout_rng=dropout_rng, train=True).loss

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss


@jax.jit
def loss_of_batch(state, batch):
    """Return the loss without dropout, ()."""
    return state.apply_fn(**batch, params=state.params).loss


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder, as gptj.load takes it.")
@click.option("--steps", default=100, help="In all, with those of the checkpoint.")
@click.option("--length", default=128, help="Tokens of a row.")
@click.option("--save-every", default=50, help="Steps between two checkpoints.")
@click.option("--data", default=1, help="Parts of a batch; devices = data x model.")
@click.option("--out", type=click.Path(path_type=Path), default="runs/flax_language_model")
def main(name: str, steps: int, length: int, save_every: int, data: int, out: Path) -> None:
    """Train a model on Python's documentation, and save checkpoints and the model."""
    rows = gptj.text_dataset(write_topics(out / "topics"), length=length, cache_dir=out / "cache")
    train, held_out = rows.split(0.05, seed=0)
    shape = (data, jax.device_count() // data)
    mesh = jax.make_mesh(shape, ("data", "model"))
    over_data = NamedSharding(mesh, PartitionSpec("data"))
    model = gptj.load(name, backend="flax", sharding=mesh, resid_pdrop=0.1)
    state = new_state(model, mesh)

    checkpoints = ocp.CheckpointManager((out / "checkpoints").absolute())
    if checkpoints.latest_step() is not None:
        place = ocp.args.StandardRestore(state)  # values come as this state lies on the mesh
        state = checkpoints.restore(checkpoints.latest_step(), args=place)
    first = int(state.step)

    def held_out_loss():
        batches = islice(held_out.batches(BATCH, drop_last=True), 8)
        return np.mean([loss_of_batch(state, jax.device_put(b, over_data)) for b in batches])

    print(f"mesh {dict(mesh.shape)}, step {first}, held-out loss {held_out_loss():.3f}", flush=True)
    epoch, start = divmod(first, train.steps(BATCH, drop_last=True))
    batches = train.stream(BATCH, seed=1, epoch=epoch, start=start, drop_last=True)
    advance = jax.jit(train_step, donate_argnums=0)  # the old state's memory becomes the new one's
    for step, batch in zip(range(first + 1, steps + 1), batches, strict=False):
        state, loss = advance(state, jax.device_put(batch, over_data), jax.random.key(0))
        if step % save_every == 0 or step == steps:
            print(f"step {step}, loss {loss:.3f}", flush=True)
            checkpoints.save(step, args=ocp.args.StandardSave(state))
    print(f"step {int(state.step)}, held-out loss {held_out_loss():.3f}")
    checkpoints.close()  # waits for what is still being written
    model.save_pretrained(out / "model", state.params)


if __name__ == "__main__":
    main()
