"""Every framework takes the data sets as they are, and its models train on what they give."""

from itertools import islice

import numpy as np
import pytest

import gptj
from corpora import tokenizer, write_lines
from gptj.datasets import keras_batches, output_signature, shifted_targets
from models import run, tiny_config, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

LENGTH = 12
DATA = {
    "causal_lm": "text_dataset",
    "sequence_classification": "classification_dataset",
    "question_answering": "question_dataset",
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A data set for every head, of the same six lines."""
    folder = tmp_path_factory.mktemp("frameworks")
    lines = [
        {
            "text": f"Number {row} of six, and so on.",
            "label": row % 2,
            "question": "Which?",
            "context": f"The answer is {row}.",
            "answers": {"text": [str(row)], "answer_start": [14]},
        }
        for row in range(6)
    ]
    path = write_lines(folder / "lines.jsonl", lines)
    options = {"length": LENGTH, "cache_dir": folder / "cache"}
    stride = {"question_answering": {"stride": 2}}
    return {
        head: getattr(gptj, name)(path, tokenizer(), **options, **stride.get(head, {}))
        for head, name in DATA.items()
    }


def small(batch):
    """Return a batch with the tokens that the tiny model has."""
    ids = batch["input_ids"] % (tiny_config().vocab_size - 1)
    shrunk = {**batch, "input_ids": ids}
    if batch.get("labels", ids[0]).shape == ids.shape:
        shrunk["labels"] = np.where(batch["labels"] == -100, batch["labels"], ids)
    return shrunk


@pytest.mark.parametrize("head", DATA)
def test_the_models_of_every_backend_take_a_batch(backend, head, datasets):
    if head not in backend.capabilities.heads:
        pytest.skip(f"{backend.name} has no {head}")
    batch = small(next(datasets[head].batches(4, seed=1)))
    loss = run(backend, tiny_model(backend.name, head), **batch).loss
    assert np.isfinite(loss) and loss > 0


@pytest.mark.parametrize("head", DATA)
def test_a_pytorch_loader_takes_a_data_set_as_it_is(torch_backend, head, datasets):
    from torch.utils.data import DataLoader

    loader = DataLoader(datasets[head], batch_size=4)
    for found, expected in zip(loader, datasets[head].batches(4), strict=True):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name].numpy(), array)
            assert found[name].numpy().dtype == array.dtype


@pytest.mark.parametrize("head", DATA)
def test_a_tensorflow_data_set_is_made_from_batches(tf_backend, head, datasets):
    import tensorflow as tf

    dataset = datasets[head]
    made = tf.data.Dataset.from_generator(
        lambda: dataset.batches(4, seed=1), output_signature=output_signature(dataset)
    )
    for found, expected in zip(made, dataset.batches(4, seed=1), strict=True):
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name].numpy(), array)
            assert found[name].dtype == array.dtype


def test_a_signature_may_fix_the_batch(tf_backend, datasets):
    signature = output_signature(datasets["question_answering"], 4)
    assert signature["input_ids"].shape == (4, LENGTH)
    assert signature["start_positions"].shape == (4,)


@pytest.mark.parametrize("head", DATA)
def test_keras_fits_batches_with_labels_in_x_or_as_y(tf_backend, head, datasets):
    import keras

    dataset, shared = datasets[head], tiny_model("tf", head)
    model = type(shared).from_config(shared.get_config())
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)  # no time to trace
    steps = dataset.steps(4, drop_last=True)
    options = {"steps_per_epoch": steps, "epochs": 2, "shuffle": False, "verbose": 0}
    inside = ((small(batch),) for batch in dataset.stream(4, 1, drop_last=True))
    as_y = keras_batches(small(batch) for batch in dataset.stream(4, 1, drop_last=True))
    losses = [model.fit(batches, **options).history["loss"] for batches in (inside, as_y)]
    assert_close(np.array(losses[1]), np.array(losses[0]), "float32", "loss as y")


def test_y_of_text_is_shifted_and_x_has_no_labels(datasets):
    (batch,) = islice(datasets["causal_lm"].batches(3), 1)
    x, y = next(keras_batches([batch]))
    assert set(x) == {"input_ids", "attention_mask"}
    np.testing.assert_array_equal(y, shifted_targets(batch["labels"]))


def test_a_step_of_jax_is_compiled_once_for_an_epoch(flax_backend, datasets):
    import jax

    model, traces = tiny_model("flax"), []

    @jax.jit
    def loss(params, batch):
        traces.append(1)
        return model(**batch, params=params).loss

    batches = datasets["causal_lm"].batches(2, seed=3, drop_last=True)
    losses = [float(loss(model.params, small(batch))) for batch in batches]
    assert len(losses) > 1 and np.isfinite(losses).all()
    assert len(traces) == 1
