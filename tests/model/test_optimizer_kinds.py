"""Which optimizers of each framework can be saved and loaded, and what happens to the rest."""

import ml_dtypes
import numpy as np
import pytest

import gptj
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.spec.lora import adapter_shapes
from gptj.spec.params import parameter_table
from optimizer_helpers import adamw, arrays, assert_same, new_model, trained

pytestmark = pytest.mark.frameworks

HEAD = "sequence_classification"


@pytest.mark.parametrize("adapted", [False, True])
def test_the_state_is_of_just_what_is_trained_in_canonical_form(framework, adapted):
    model = new_model(framework.name, adapted, HEAD)
    state = framework.dump_optimizer(model, adamw(model))
    table = parameter_table(model.config, HEAD)
    shapes = {name: parameter.shape for name, parameter in table.items()}
    expected = adapter_shapes(model.lora, model.config, HEAD) if adapted else shapes
    for moment in (state.first, state.second):
        assert {name: tensor.shape for name, tensor in moment.items()} == expected
        assert all(tensor.read().shape == tensor.shape for tensor in moment.values())
        assert not any(np.any(tensor.read()) for tensor in moment.values())
    assert state.step == 0


def test_half_precision_moments_stay_half_and_are_written_as_float32(framework, tmp_path):
    model, optimizer = trained(framework.name)
    model.save_optimizer(tmp_path, optimizer)
    _, first, second = arrays(framework.dump_optimizer(model, optimizer))
    half = new_model(framework.name, dtype="bfloat16")
    loaded = half.load_optimizer(tmp_path, adamw(half))
    assert moment_dtype(framework.name, loaded) == "bfloat16"
    rounded = [
        {
            name: array.astype(ml_dtypes.bfloat16).astype(np.float32)
            for name, array in moment.items()
        }
        for moment in (first, second)
    ]
    assert_same(arrays(framework.dump_optimizer(half, loaded)), (2, *rounded))
    half.save_optimizer(tmp_path, loaded)
    again = half.load_optimizer(tmp_path, adamw(half))
    assert_same(arrays(framework.dump_optimizer(half, again)), (2, *rounded))


def moment_dtype(name, optimizer):
    if name == "torch":
        return str(next(iter(optimizer.state.values()))["exp_avg"].dtype).removeprefix("torch.")
    if name == "tf":
        return str(optimizer._momentums[0].dtype)
    return str(optimizer[0].mu["lm_head"]["kernel"].dtype)


def test_no_optimizer_is_an_error_that_says_what_to_give(framework, tmp_path):
    model = new_model(framework.name)
    for call in (model.save_optimizer, model.load_optimizer):
        with pytest.raises(ArgumentError, match=r"needs the optimizer, and found none: give torch"):
            call(tmp_path)


def test_a_backend_without_optimizers_says_so(tmp_path):
    model = gptj.load("demo", backend="oracle")
    with pytest.raises(UnsupportedFeature, match="The backend 'oracle' has no optimizers"):
        model.save_optimizer(tmp_path, object())


def wrong_torch(model):
    import torch

    own = [*model.parameters()]
    elsewhere = torch.nn.Parameter(torch.zeros(3))
    yield torch.optim.SGD(own, lr=0.1), "The state of a SGD cannot be moved"
    yield torch.optim.Adam(own, amsgrad=True), "amsgrad=True"
    yield torch.optim.Adam(own[1:]), r"1 of \d+ parameters .* \(transformer.wte.weight\), and 0"
    yield torch.optim.Adam([*own, elsewhere]), r"\(none\), and 1 in it are not the model's"
    own[0].full_tensor = None  # which those have that are divided
    yield torch.optim.Adam(own), r"divided over processes. Save .* torch.distributed.checkpoint"


def wrong_tf(model):
    import keras

    own = model.trainable_variables
    fewer = keras.optimizers.Adam()
    fewer.build(own[1:])
    other = keras.optimizers.Adam()
    other.build([*own, keras.Variable(np.zeros(3))])
    yield keras.optimizers.SGD(), "The state of a SGD cannot be moved"
    yield keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "state of a SGD"
    yield keras.optimizers.Adam(amsgrad=True), "amsgrad=True"
    yield fewer, r"1 of \d+ variables that are trainable are not in it, and 0"
    yield other, r"0 of \d+ variables .* and 1 in it are not trainable"


def wrong_flax(model):
    import optax

    params = model.params
    twice = optax.chain(optax.scale_by_adam(), optax.scale_by_adam())
    yield optax.sgd(0.1, momentum=0.9).init(params), "has no Adam in it: .* found tuple"
    yield optax.amsgrad(0.1).init(params), "has no Adam in it"
    yield optax.adamw(0.1), "has no Adam in it: .* found GradientTransformation"
    yield twice.init(params), "lm_head/bias is there twice"
    yield optax.adam(0.1).init({"other": np.zeros(3)}), "of its 1 moments 1 do not fit: other is no"
    cut = {"lm_head": {"bias": np.zeros(3, np.float32)}}
    yield optax.adam(0.1).init(cut), r"lm_head/bias is \(3,\), needed is \(96,\)"


WRONG = {"torch": wrong_torch, "tf": wrong_tf, "flax": wrong_flax}


def test_other_optimizers_and_those_of_other_models_are_refused(framework, tmp_path):
    model = new_model(framework.name)
    for optimizer, message in WRONG[framework.name](model):
        with pytest.raises(ArgumentError, match=message):
            model.save_optimizer(tmp_path, optimizer)


def test_an_optimizer_from_before_the_adapter_is_refused(framework, tmp_path):
    model, optimizer = trained(framework.name)
    model.add_lora()
    with pytest.raises(ArgumentError, match="not one of this model"):
        model.save_optimizer(tmp_path, optimizer)
