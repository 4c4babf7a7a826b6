"""An error of this package leaves Keras with its own text, without a list of all arguments."""

import numpy as np
import pytest

import gptj
from gptj.errors import InputError, TokenOutOfRange
from paths import TINY

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.frameworks

FLOATS = {"input_ids": np.ones((2, 3), "float32"), "labels": np.ones((2, 3), int)}
TEXT = "input_ids must hold integers; found <dtype: 'float32'>."


@pytest.fixture(scope="module")
def model():
    model = gptj.load(TINY, backend="tf")
    model.compile("sgd")
    return model


def test_a_call_raises_the_text_alone(model):
    with pytest.raises(TokenOutOfRange) as error:
        model(np.array([[10**6, 2]]))
    expected = "input_ids holds 1000000 at row 0, column 0; the vocabulary has 0 to 95."
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("method", "options"), [("fit", {"shuffle": False}), ("evaluate", {}), ("predict", {})]
)
def test_a_graph_of_keras_raises_the_text_alone(model, method, options):
    stream = tf.data.Dataset.from_tensors((FLOATS,))  # which only the graph looks at
    with pytest.raises(InputError) as error:
        getattr(model, method)(stream, verbose=0, **options)
    assert str(error.value) == TEXT
