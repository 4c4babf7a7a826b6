"""A training script for transformers 4.x, of which only the imports have changed, in TensorFlow.

It tunes a classifier of lines by their length: `TFAutoModelForSequenceClassification`, the
tokenizer's arrays in a `tf.data.Dataset`, `compile` without a loss, `fit`, `save_pretrained`. What
`prepare_tf_dataset` and `create_optimizer` did is written out: a dataset, and Keras's AdamW.

    python examples/from_transformers_keras.py
    python examples/from_transformers_keras.py --lines 64 --epochs 1

It takes a minute on two cores.
"""

import sysconfig
from pathlib import Path

import click
import keras
import numpy as np
import tensorflow as tf

from gptj import AutoConfig, AutoTokenizer, TFAutoModelForSequenceClassification

LENGTH = 32  # tokens of an example


def dataset(tokenizer, lines: list[str], batch_size: int) -> tf.data.Dataset:
    """Return batches of lines with their labels, as the model takes them."""
    encoded = tokenizer(
        lines, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    labels = np.array([int(len(line) >= 40) for line in lines])
    rows = tf.data.Dataset.from_tensor_slices({**encoded, "labels": labels})
    return rows.shuffle(len(lines), seed=0).batch(batch_size, drop_remainder=True)


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder.")
@click.option("--lines", default=320)
@click.option("--epochs", default=2)
@click.option("--batch-size", default=16)
@click.option("--out", type=click.Path(path_type=Path), default="runs/from_transformers_keras")
def main(name: str, lines: int, epochs: int, batch_size: int, out: Path) -> None:
    """Train a classifier, and save it with its tokenizer."""
    keras.utils.set_random_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.pad_token = tokenizer.eos_token
    config = AutoConfig.from_pretrained(name, num_labels=2)
    config.pad_token_id = tokenizer.pad_token_id
    model = TFAutoModelForSequenceClassification.from_pretrained(name, config=config)
    source = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    texts = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    train = dataset(tokenizer, texts[:lines], batch_size)
    steps = epochs * int(train.cardinality())
    schedule = keras.optimizers.schedules.PolynomialDecay(1e-3, steps, end_learning_rate=0.0)
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01))
    history = model.fit(train, epochs=epochs, verbose=0)
    for number, loss in enumerate(history.history["loss"], 1):
        print(f"epoch {number}, loss {loss:.5f}", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    inputs = tokenizer(["return self", "x" * 60], padding=True, return_tensors="tf")
    print("classes", tf.argmax(model(**inputs).logits, axis=-1).numpy().tolist())


if __name__ == "__main__":
    main()
