"""A training script for transformers 4.x, of which only the imports have changed, in Flax.

It tunes a language model on Python's standard library as such scripts did: `TrainState`, weight
decay by a mask, `replicate`, `shard`, `shard_prng_key`, `jax.pmap` with `pmean`, and a call of the
model with its own parameters and a key for dropout.

    python examples/from_transformers_flax.py
    python examples/from_transformers_flax.py --steps 4

It takes two minutes on two cores.
"""

import sysconfig
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, traverse_util
from flax.training.common_utils import onehot, shard, shard_prng_key
from flax.training.train_state import TrainState

from gptj import AutoConfig, AutoTokenizer, FlaxAutoModelForCausalLM

LENGTH = 32  # tokens of an example


def decay_mask(params):
    """Return which parameters decay: all but biases and the weights of norms."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({path: path[-1] == "kernel" for path in flat})


def loss_of(logits, labels):
    """Return the mean loss of the next tokens."""
    losses = optax.softmax_cross_entropy(logits[:, :-1], onehot(labels[:, 1:], logits.shape[-1]))
    return losses.mean()


def train_step(state, batch, dropout_rng):
    """Return the state after a batch, its loss, and the next key."""
    dropout_rng, new_rng = jax.random.split(dropout_rng)

    def compute(params):
        labels = batch["labels"]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = state.apply_fn(**inputs, params=params, dropout_rng=dropout_rng, train=True)[0]
        return loss_of(logits, labels)

    loss, gradients = jax.value_and_grad(compute)(state.params)
    gradients = jax.lax.pmean(gradients, "batch")
    return state.apply_gradients(grads=gradients), jax.lax.pmean(loss, "batch"), new_rng


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder.")
@click.option("--steps", default=20)
@click.option("--batch-size", default=8, help="Per device.")
@click.option("--out", type=click.Path(path_type=Path), default="runs/from_transformers_flax")
def main(name: str, steps: int, batch_size: int, out: Path) -> None:
    """Train a model, and save it with its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    config = AutoConfig.from_pretrained(name)
    model = FlaxAutoModelForCausalLM.from_pretrained(name, config=config, seed=0, dtype=jnp.float32)
    model.params = model.to_fp32(model.params)  # a file in half precision gives such parameters
    source = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    ids = np.array(tokenizer(source.read_text(encoding="utf-8"))["input_ids"])
    rows = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)
    schedule = optax.linear_schedule(1e-3, 0.0, steps)
    optimizer = optax.adamw(schedule, weight_decay=0.01, mask=decay_mask)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    state = jax_utils.replicate(state)
    dropout_rngs = shard_prng_key(jax.random.PRNGKey(0))
    step_on_devices = jax.pmap(train_step, "batch", donate_argnums=(0,))
    at_once = batch_size * jax.device_count()
    for step in range(1, steps + 1):
        chosen = np.random.default_rng(step).choice(len(rows), at_once, replace=False)
        batch = dict.fromkeys(("input_ids", "labels"), rows[chosen])
        batch["attention_mask"] = np.ones_like(rows[chosen])
        state, loss, dropout_rngs = step_on_devices(state, shard(batch), dropout_rngs)
        print(f"step {step}, loss {jax_utils.unreplicate(loss):.5f}", flush=True)

    params = jax.device_get(jax_utils.unreplicate(state.params))
    model.save_pretrained(out, params=params)
    tokenizer.save_pretrained(out)
    prompt = tokenizer("def add", return_tensors="np")
    written = model.generate(prompt["input_ids"], params=params, max_new_tokens=8)
    print("text", repr(tokenizer.batch_decode(written, skip_special_tokens=True)[0]))


if __name__ == "__main__":
    main()
