"""Classify lines of Python with Keras: `compile` and `fit`, a loss and a metric of Keras's own.

The lines are those of Python's standard library, and the class of a line is the kind of its
statement, as Python's parser sees it. No line is both trained on and held out, but the demo model
has learned its Python from the same files, without the classes.

    python examples/keras_classification.py
    python examples/keras_classification.py --epochs 1 --per-class 50

It takes about two minutes on two cores, and prints Keras's progress, the accuracy on held-out
lines after saving and loading, and the classes of a few lines that are in no library.
"""

import ast
import json
import sysconfig
import warnings
from pathlib import Path

import click
import keras

import gptj
from gptj.datasets import keras_batches

KINDS = "Assign AugAssign ClassDef Expr For FunctionDef If Raise Return".split()
LENGTH = 32  # tokens of an example; of the few longer lines the beginning is read
NEW_LINES = ["total -= price * 2", "if len(cakes) > 3:", "cakes.sort()", "cake = bake(sugar=3)"]


def kind_of(line: str) -> str | None:
    """Return the kind of the one statement on a line, None for what is no whole statement."""
    try:
        (statement,) = ast.parse(f"{line} pass" if line.endswith(":") else line).body
    except (SyntaxError, ValueError):  # part of a statement, or of a text
        return None
    return type(statement).__name__


def write_lines(path: Path, per_class: int) -> None:
    """Write up to `per_class` different lines of every kind as JSON lines."""
    found = {kind: set() for kind in KINDS}
    for source in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for line in source.read_text(encoding="utf-8", errors="replace").splitlines():
            kind = kind_of(line.strip())
            if kind in found and len(found[kind]) < per_class:
                found[kind].add(line.strip())
    with path.open("w", encoding="utf-8") as file:
        for kind in KINDS:
            for line in sorted(found[kind]):
                file.write(json.dumps({"text": line, "label": kind}) + "\n")


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder, as gptj.load takes it.")
@click.option("--epochs", default=2)
@click.option("--per-class", default=300, help="Lines of each class, a fifth of them held out.")
@click.option("--batch-size", default=32)
@click.option("--out", type=click.Path(path_type=Path), default="runs/keras_classification")
def main(name: str, epochs: int, per_class: int, batch_size: int, out: Path) -> None:
    """Train a classifier of lines of Python, and save it in Keras's format."""
    out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", SyntaxWarning)  # of the lines that are parsed
    write_lines(out / "lines.jsonl", per_class)
    data = gptj.classification_dataset(
        out / "lines.jsonl", length=LENGTH, label_names=KINDS, cache_dir=out / "cache"
    )
    train, held_out = data.split(0.2, seed=0)

    keras.utils.set_random_seed(0)
    labels = dict(enumerate(data.label_names))
    model = gptj.load(name, backend="tf", head="sequence_classification", id2label=labels)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        keras_batches(train.stream(batch_size, seed=1, drop_last=True)),
        steps_per_epoch=train.steps(batch_size, drop_last=True),
        epochs=epochs,
        shuffle=False,  # the data set has shuffled already
        verbose=2,
    )

    model.save(out / "classifier.keras")
    loaded = keras.saving.load_model(out / "classifier.keras")
    _, accuracy = loaded.evaluate(
        keras_batches(held_out.stream(64)), steps=held_out.steps(64), verbose=0
    )
    print(f"held-out accuracy {accuracy:.3f} on {len(held_out)} lines, of a model loaded again")
    rows = gptj.load_tokenizer(name)(NEW_LINES, padding=True, return_tensors="np")
    classes = loaded.predict(dict(rows), verbose=0)["logits"].argmax(axis=-1)
    for line, number in zip(NEW_LINES, classes, strict=True):
        print(f"{loaded.config.id2label[number]:12} {line}")


if __name__ == "__main__":
    main()
