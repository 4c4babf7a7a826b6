"""Small models with adapters whose values are drawn, and the weights that they amount to."""

import numpy as np

from gptj.backends import get_backend
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig, adapter_shapes, lora_layers
from gptj.spec.tensors import LazyTensor
from models import draw_ids, tiny_config, tiny_weights

IDS = draw_ids((2, 6), seed=41)
SMALL = LoraConfig(rank=3, alpha=6)
ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")


def small_config(**changes):
    """Return the configuration of these models: one layer, unless `changes` say otherwise."""
    return tiny_config(**{"n_layer": 1, **changes})


def small_weights(head="causal_lm", **changes):
    """Return the base model's weights by canonical name."""
    return tiny_weights(head, **{"n_layer": 1, **changes})


def drawn(lora, head="causal_lm", **changes):
    """Return adapter weights far from zero, by canonical name."""
    generator = np.random.Generator(np.random.PCG64(43))
    shapes = adapter_shapes(lora, small_config(**changes), head)
    return {
        name: (0.3 * generator.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def plain(name, head="causal_lm", dtype="float32", **changes):
    """Return a fresh tiny model without an adapter."""
    tensors = {n: LazyTensor.of(w.copy()) for n, w in small_weights(head, **changes).items()}
    config = GPTJConfig.from_dict(small_config(**changes).to_dict())
    return get_backend(name).build(config, head, params=tensors, dtype=dtype)


def adapted(name, lora=None, head="causal_lm", dtype="float32", **changes):
    """Return a tiny model with an adapter of `drawn` values."""
    lora = lora or SMALL
    model = plain(name, head, dtype, **changes)
    tensors = {n: LazyTensor.of(w) for n, w in drawn(lora, head, **changes).items()}
    get_backend(name).add_adapter(model, lora, tensors)
    model.lora = lora
    return model


def merged_weights(lora, head="causal_lm", **changes):
    """Return W + scale * B A in float64 by canonical name, with the modules trained whole."""
    values = drawn(lora, head, **changes)
    weights = {name: w.astype(np.float64) for name, w in small_weights(head, **changes).items()}
    weights |= {name: value for name, value in values.items() if name in weights}
    for layer in lora_layers(lora, small_config(**changes), head).values():
        update = values[layer.up].astype(np.float64) @ values[layer.down]
        own = layer.weight if layer.weight in weights else "transformer.wte.weight"  # tied
        weights[layer.weight] = weights[own] + layer.scale * update
    return weights


def loss(model, **inputs):
    """Return the loss of a model and the gradients of its adapter by canonical name."""
    backend = get_backend(model.backend_name)
    tensors = {name: backend.from_numpy(value, model) for name, value in inputs.items()}
    return GRADIENTS[backend.name](backend, model, tensors)


def _torch(backend, model, inputs):
    names = list(backend.dump_adapter(model))
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(wanted) == len(names)
    by_name = {n: p for n, p in model.named_parameters() if p.requires_grad}
    value = model(**inputs).loss
    value.backward()
    gradients = {}
    for name in names:
        native = name.removesuffix(".weight").replace(".lora_", ".adapter.lora_")
        gradients[name] = by_name[native if ".lora_" in name else name].grad.numpy()
    return float(value.detach()), gradients


def _tf(backend, model, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = model(**inputs).loss
    variables = model.trainable_variables
    found = tape.gradient(value, [variable.value for variable in variables])
    gradients = {}
    for variable, gradient in zip(variables, found, strict=True):
        path = variable.path.removeprefix(f"{model.path}/").replace("/adapter/", "/")
        owner, _, leaf = path.replace("/", ".").rpartition(".")
        name = f"{owner}.bias" if leaf == "bias" else f"{owner}.{leaf}.weight"
        array = gradient.numpy()
        gradients[name.replace(".kernel.", ".")] = array.T if array.ndim == 2 else array
    assert gradients.keys() == backend.dump_adapter(model).keys()
    return float(value), gradients


def _flax(backend, model, inputs):
    import jax

    def of(lora):
        return model(**inputs, params={**model.params, "lora": lora}).loss

    value, tree = jax.value_and_grad(of)(model.params["lora"])
    bound = model.bind({**model.params, "lora": tree})
    return float(value), {n: np.asarray(t.read()) for n, t in backend.dump_adapter(bound).items()}


GRADIENTS = {"torch": _torch, "tf": _tf, "flax": _flax}
