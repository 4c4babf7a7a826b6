"""The gradient of a loss for every parameter, by canonical name, in any framework."""

import numpy as np

from gptj.spec.params import parameter_table


def loss_gradients(backend, model, **arrays):
    """Return the gradients of a model's loss as canonical float32 arrays."""
    inputs = {name: backend.from_numpy(array, model) for name, array in arrays.items()}
    native = _GRADIENTS[backend.name](model, inputs)
    table = parameter_table(model.config, model.head)
    return {name: native(parameter) for name, parameter in table.items()}


def _torch(model, inputs):
    model.zero_grad()
    model(**inputs).loss.backward()
    found = {name: p.grad.clone().numpy() for name, p in model.named_parameters()}
    model.zero_grad()
    return lambda parameter: found[parameter.name]


def _tf(model, inputs):
    import tensorflow as tf

    from gptj.backends.tf import params

    with tf.GradientTape() as tape:
        loss = model(**inputs).loss
    variables = {name: variable for name, _, variable in params.variables(model)}
    gradients = tape.gradient(loss, [variable.value for variable in variables.values()])
    found = {
        name: tf.convert_to_tensor(g).numpy() for name, g in zip(variables, gradients, strict=True)
    }
    return lambda parameter: _canonical(found[parameter.name], parameter.kind)


def _flax(model, inputs):
    import jax

    from gptj.backends.flax import params

    gradients = jax.grad(lambda tree: model(**inputs, params=tree).loss)(model.params)

    def native(parameter):
        leaf = gradients
        for part in params.native_name(parameter).split("/"):
            leaf = leaf[part]
        return _canonical(np.asarray(leaf), parameter.kind)

    return native


def _canonical(array, kind):
    """Return a gradient in the canonical (out, in) orientation."""
    return array.T if kind == "linear_weight" else array


_GRADIENTS = {"torch": _torch, "tf": _tf, "flax": _flax}
