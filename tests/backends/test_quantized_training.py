"""What is trained on int8 weights: adapters alone, and how the rest is refused."""

import numpy as np
import pytest

import gptj
from gptj.errors import UnsupportedFeature
from gptj.spec.lora import LoraConfig, lora_layers
from gptj.spec.reference import backward
from gptj.spec.tensors import LazyTensor
from lora_cases import ALL, drawn, loss
from models import draw_ids, run
from quantized_cases import meant_weights, quantized_config, quantized_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 6), seed=41)
LORA = LoraConfig(rank=3, alpha=6, targets=(*ALL, "lm_head"))
SMALL = {"n_layer": 1}
REFUSED = "int8. Train an adapter with add_lora"


def adapted(framework):
    """Return a small quantized model with an adapter of drawn values."""
    model = quantized_model(framework.name, **SMALL)
    tensors = {name: LazyTensor.of(weight) for name, weight in drawn(LORA).items()}
    framework.add_adapter(model, LORA, tensors)
    model.lora = LORA
    return model


def merged_weights():
    """Return the weights that model and adapter amount to, float64."""
    weights, values = meant_weights(**SMALL), drawn(LORA)
    for layer in lora_layers(LORA, quantized_config(**SMALL), "causal_lm").values():
        weights[layer.weight] = weights[layer.weight] + layer.scale * (
            values[layer.up].astype(np.float64) @ values[layer.down]
        )
    return weights


def test_an_adapter_computes_and_learns_on_top(framework):
    model = adapted(framework)
    config = quantized_config(**SMALL)
    config.quantization_config = None
    expected, of_weights = backward(config, merged_weights(), input_ids=IDS, labels=IDS)
    assert_close(run(framework, model, input_ids=IDS).logits, expected.logits, "float32")
    value, gradients = loss(model, input_ids=IDS, labels=IDS)
    assert_close(value, expected.loss, "float32", "loss")
    for layer in lora_layers(LORA, config, "causal_lm").values():
        down, of_weight = drawn(LORA)[layer.down], of_weights[layer.weight]
        of_up = layer.scale * of_weight @ down.T.astype(np.float64)
        assert_close(gradients[layer.up], of_up, "float32", layer.up)


def test_an_adapter_is_saved_and_loaded_but_not_merged(framework, tmp_path):
    model = quantized_model(framework.name, **SMALL).add_lora(rank=2, seed=5)
    with pytest.raises(UnsupportedFeature, match=r"merge_lora\(\) needs weights that can change"):
        model.merge_lora()
    model.save_lora(tmp_path)
    again = quantized_model(framework.name, **SMALL).load_lora(tmp_path)
    before = run(framework, model, input_ids=IDS).logits
    np.testing.assert_array_equal(run(framework, again, input_ids=IDS).logits, before)
    plain = run(framework, again.remove_lora(), input_ids=IDS).logits
    assert_close(plain, before, "float32")  # B of a new adapter is zero


def test_pytorch_trains_adapters_alone(torch_backend):
    model = quantized_model("torch", **SMALL)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model.train()
    assert not model.training
    assert model.add_lora(rank=2).train().training
    model.eval().remove_lora()
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model.train()


def test_keras_trains_adapters_alone(tf_backend):
    model = quantized_model("tf", **SMALL)
    model.compile("sgd")
    batch = {"input_ids": IDS, "labels": IDS}
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model.fit(batch, verbose=0)
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model.train_on_batch(batch)
    model.add_lora(rank=2)
    model.compile("sgd")
    assert np.isfinite(model.fit(batch, verbose=0).history["loss"][0])


def test_flax_trains_adapters_alone(flax_backend):
    model = quantized_model("flax", **SMALL)
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model(IDS, labels=IDS, train=True)
    assert np.isfinite(model.add_lora(rank=2)(IDS, labels=IDS, train=True).loss)


def test_dequantized_weights_can_be_trained(framework, tmp_path):
    quantized_model(framework.name).save_pretrained(tmp_path)
    model = gptj.load(tmp_path, backend=framework.name, quantize="none")
    ids = framework.from_numpy(IDS, model)
    value, gradients = framework.gradients(model, input_ids=ids, labels=ids)
    assert np.isfinite(value)
    assert gradients.keys() == meant_weights().keys()
