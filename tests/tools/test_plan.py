"""What `gptj plan` predicts: exactly where that can be, and it says whether it fits.

How close activations are to what is measured, ``benchmarks/planning.py`` shows.
"""

import json

import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from models import DEMO, tiny_model
from paths import TINY

pytestmark = pytest.mark.frameworks

BACKENDS = ("torch", "tf", "flax")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_6b_is_as_large_as_it_is(backend):
    found = gptj.plan("6B", backend=backend, dtype="float16", length=1)
    assert found.weights == 2 * 6_050_882_784


def test_the_cache_is_448_kib_a_token_in_half_precision():
    assert gptj.plan("6B", dtype="bfloat16").cache == 2048 * 448 * 1024


def test_weights_and_cache_are_those_of_the_model(framework):
    found = gptj.plan(TINY, backend=framework.name, batch=3, length=32)
    model = tiny_model(framework.name)
    params = framework.dump_params(model).values()
    assert found.weights == sum(tensor.nbytes for tensor in params)
    layers = framework.init_cache(model, 3, 64).layers
    arrays = [framework.to_numpy(array) for layer in layers for array in layer]
    assert gptj.plan(TINY, backend=framework.name, batch=3, length=64).cache == sum(
        array.nbytes for array in arrays
    )


def test_flax_keeps_float32_keys_and_values_on_a_cpu():
    half, full = (gptj.plan("6B", backend="flax", dtype=name) for name in ("float16", "float32"))
    assert half.cache == full.cache
    assert gptj.plan("6B", backend="flax", dtype="float16", memory="80GB").cache == full.cache // 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_needs_gradients_and_two_moments_and_no_cache(backend):
    found = gptj.plan(DEMO, backend=backend, train=True, dtype="float32", length=64)
    assert (found.gradients, found.optimizer) == (found.weights, 2 * found.weights)
    assert found.cache == 0
    parts = (found.weights, found.gradients, found.optimizer, found.activations, found.runtime)
    assert found.total == sum(parts)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("train", [False, True])
def test_more_tokens_need_more(backend, train):
    def total(**options):
        return gptj.plan("6B", backend=backend, train=train, **options).total

    assert total(batch=1, length=128) < total(batch=2, length=128) < total(batch=2, length=512)


def test_what_does_not_fit_says_by_how_much_and_what_to_do():
    assert gptj.plan("6B", dtype="bfloat16", memory="24GiB").fits
    text = str(gptj.plan("6B", dtype="float32", memory="24GB", length=256))
    assert "it does not fit, by" in text
    assert "take dtype bfloat16" in text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": 0}, ArgumentError, "batch 0 must be an integer from 1"),
        ({"length": 4000}, ArgumentError, "length 4000 must be an integer from 1 to 2048"),
        ({"dtype": "int8"}, ArgumentError, "no dtype 'int8' here"),
        ({"memory": "lots"}, ArgumentError, "memory 'lots' is not a size"),
        ({"backend": "mxnet"}, Exception, "mxnet"),
        ({"head": "chat"}, ArgumentError, "chat"),
        ({"name": "./nowhere"}, CheckpointError, "neither an existing folder"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        gptj.plan(**options)


def test_a_backend_that_was_not_measured_is_refused():
    with pytest.raises(UnsupportedFeature, match="needs of the backend 'oracle' were not measured"):
        gptj.plan("6B", backend="oracle")


def test_the_command_prints_a_table_or_json():
    run = CliRunner().invoke
    result = run(main, ["plan", "6B", "--dtype", "bfloat16", "--memory", "24GiB"])
    assert result.exit_code == 0
    assert result.stdout.endswith("it fits\n")
    result = run(main, ["plan", "6B", "--train", "--memory", "24GiB", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["fits"] is False
