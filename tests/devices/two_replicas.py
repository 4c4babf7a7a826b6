"""Training over two devices: run by ``test_keras_distributed`` where TensorFlow has two of them."""

import pytest
import tensorflow as tf

from gptj.backends import get_backend
from gptj.errors import UnsupportedFeature
from tolerances import assert_close

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

from keras_cases import AS_Y, CLASSES, IDS, compiled, inputs, train  # noqa: E402

pytestmark = pytest.mark.frameworks

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def mirrored(head, **how):
    with STRATEGY.scope():
        return compiled(head, **how)


@pytest.mark.parametrize("head", CLASSES)
def test_the_losses_are_those_of_one_device(head):
    assert STRATEGY.num_replicas_in_sync == 2
    assert_close(train(mirrored(head)), train(compiled(head)))


def test_a_loss_that_is_evaluated_is_that_of_one_device():
    found, expected = (
        model.evaluate({"input_ids": IDS}, AS_Y["causal_lm"], verbose=0)
        for model in (mirrored("causal_lm"), compiled("causal_lm"))
    )
    assert_close(found, expected)


@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_a_step_of_several_replicas_that_xla_is_to_compile_is_refused(way):
    model = mirrored("causal_lm", jit_compile=True)
    with pytest.raises(UnsupportedFeature, match=r"several replicas.*jit_compile=False"):
        getattr(model, way)(inputs())
