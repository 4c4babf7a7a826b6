"""Every head and dtype under the compilers, exporters and transformations of its framework."""

import shutil
from itertools import product

import numpy as np
import pytest

from models import draw_ids, run, tiny_model
from rarely import often
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 6), seed=21)
LEFT = np.array([[1] * 6, [0, 0, 1, 1, 1, 1]])
HEADS = {
    "base": "last_hidden_state",
    "causal_lm": "logits",
    "sequence_classification": "logits",
    "question_answering": "start_logits",
}
DTYPES = ["float32", "bfloat16", "float16"]
OFTEN = [
    *(("causal_lm", dtype) for dtype in DTYPES),
    ("base", "bfloat16"),
    ("sequence_classification", "float16"),
    ("question_answering", "bfloat16"),
]
"""Every head and every dtype: the other pairs are for `slow`, as compiling takes seconds."""

every_head_and_dtype = pytest.mark.parametrize(
    ("head", "dtype"), often(product(HEADS, DTYPES), OFTEN)
)


def inputs(backend, ids=IDS, mask=LEFT):
    """Return the two inputs as tensors."""
    return backend.from_numpy(ids), backend.from_numpy(mask)


def assert_as_without(backend, head, dtype, output, ids=IDS, mask=LEFT):
    """Compare a compiled output with the plain one at the attended positions."""
    model = tiny_model(backend.name, head, dtype)
    expected = run(backend, model, input_ids=ids, attention_mask=mask)[HEADS[head]]
    found = backend.to_numpy(output[HEADS[head]])
    kept = ... if head == "sequence_classification" else mask != 0
    assert_close(
        found[kept].astype(np.float64), expected[kept].astype(np.float64), dtype, HEADS[head]
    )


# -- PyTorch ---------------------------------------------------------------------------------------


@every_head_and_dtype
def test_torch_compile_keeps_the_outputs_in_one_graph(torch_backend, head, dtype):
    import torch

    model = tiny_model("torch", head, dtype)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ids, mask = inputs(torch_backend)
    with torch.no_grad():
        output = compiled(input_ids=ids, attention_mask=mask)
    assert_as_without(torch_backend, head, dtype, output)


@pytest.mark.skipif(not shutil.which("g++"), reason="PyTorch's CPU compiler needs g++")
def test_torch_compile_makes_native_code_of_a_training_step(torch_backend):
    import torch

    model = tiny_model("torch", n_layer=1)  # the compiler takes seconds per layer
    compiled = torch.compile(model, fullgraph=True)
    ids, mask = inputs(torch_backend)
    output = compiled(input_ids=ids, attention_mask=mask, labels=ids)
    output.loss.backward()
    gradient = model.transformer.wte.weight.grad.clone()
    model.zero_grad()
    plain = model(input_ids=ids, attention_mask=mask, labels=ids)
    plain.loss.backward()
    assert_close(output.logits.detach().numpy(), plain.logits.detach().numpy(), "float32", "logits")
    expected = model.transformer.wte.weight.grad
    model.zero_grad()
    assert_close(gradient.numpy(), expected.numpy(), "float32", "gradient of wte")


def test_torch_compile_takes_and_returns_a_cache(torch_backend):
    import torch

    model = tiny_model("torch")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        first = compiled(input_ids=inputs(torch_backend)[0][:, :4], use_cache=True)
        second = compiled(
            input_ids=inputs(torch_backend)[0][:, 4:],
            past_key_values=first.past_key_values,
            use_cache=True,
        )
    expected = run(torch_backend, model, input_ids=IDS).logits[:, 4:]
    assert_close(second.logits.numpy(), expected, "float32", "logits")


@every_head_and_dtype
def test_torch_export_runs_at_other_sizes(torch_backend, head, dtype):
    import torch

    model = tiny_model("torch", head, dtype)
    ids, mask = inputs(torch_backend)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=64)}
    program = torch.export.export(
        model,
        (),
        {"input_ids": ids, "attention_mask": mask, "use_cache": False},
        dynamic_shapes={"input_ids": sizes, "attention_mask": sizes, "use_cache": None},
    )
    assert "cummax" not in str(
        program.graph
    )  # for which no converter to ONNX or OpenVINO has a rule
    other, ones = draw_ids((3, 9), seed=4), np.ones((3, 9), int)
    ids, mask = inputs(torch_backend, other, ones)
    output = program.module()(input_ids=ids, attention_mask=mask, use_cache=False)
    assert_as_without(torch_backend, head, dtype, output, other, ones)


def test_the_rotary_table_survives_casts_and_meta(torch_backend):
    import torch

    model = tiny_model("torch")
    expected = model.transformer.rotary.sin.clone()
    with torch.device("meta"):
        empty = type(model)(model.config)
    for changed in (empty.to_empty(device="cpu"), empty.half(), empty.to(torch.bfloat16)):
        assert changed.transformer.rotary.sin.dtype == torch.float32
        assert torch.equal(changed.transformer.rotary.sin, expected)


# -- TensorFlow ------------------------------------------------------------------------------------


@every_head_and_dtype
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_tf_function_keeps_the_outputs(tf_backend, head, dtype, jit):
    import tensorflow as tf

    model = tiny_model("tf", head, dtype)
    call = tf.function(
        lambda ids, mask: model(input_ids=ids, attention_mask=mask, use_cache=False),
        jit_compile=jit,
    )
    assert_as_without(tf_backend, head, dtype, call(*inputs(tf_backend)))


def test_tf_function_of_any_length_traces_once(tf_backend):
    import tensorflow as tf

    model, traces = tiny_model("tf"), []

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)] * 2)
    def call(ids, mask):
        traces.append(1)
        return model(input_ids=ids, attention_mask=mask, use_cache=False)

    for shape in ((2, 6), (1, 9)):
        ids, mask = draw_ids(shape, seed=5), np.ones(shape, int)
        output = call(tf.constant(ids, tf.int32), tf.constant(mask, tf.int32))
        assert_as_without(tf_backend, "causal_lm", "float32", output, ids, mask)
    assert len(traces) == 1


def test_ids_that_nobody_could_check_give_finite_results_in_a_tf_graph(tf_backend):
    import tensorflow as tf

    model = tiny_model("tf")
    call = tf.function(lambda ids: model(input_ids=ids, use_cache=False).logits)
    assert np.isfinite(call(tf.constant([[3, 1000, -7]])).numpy()).all()


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3}], ids=["greedy", "sampled"])
def test_generate_works_inside_xla(tf_backend, options):
    import tensorflow as tf

    model = tiny_model("tf", n_layer=1)  # XLA takes seconds per layer
    options = {"max_new_tokens": 6, "eos_token_id": None, **options}
    call = tf.function(lambda ids, mask: model.generate(ids, mask, **options), jit_compile=True)
    expected = tf_backend.to_numpy(model.generate(IDS, LEFT, **options))
    np.testing.assert_array_equal(call(*inputs(tf_backend)).numpy(), expected)


# -- JAX -------------------------------------------------------------------------------------------


@every_head_and_dtype
def test_jit_keeps_the_outputs(flax_backend, head, dtype):
    import jax

    model = tiny_model("flax", head, dtype)
    call = jax.jit(lambda params, ids, mask: model(ids, mask, params=params))
    output = call(model.params, *inputs(flax_backend))
    assert_as_without(flax_backend, head, dtype, output)


@every_head_and_dtype
def test_vmap_over_sequences_equals_the_batch(flax_backend, head, dtype):
    import jax

    model = tiny_model("flax", head, dtype)

    def row(ids, mask):
        return model(ids[None], mask[None], params=model.params)[HEADS[head]][0]

    output = {HEADS[head]: jax.vmap(row)(*inputs(flax_backend))}
    assert_as_without(flax_backend, head, dtype, output)


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_reaches_every_parameter(flax_backend, dtype):
    import jax

    model = tiny_model("flax", "causal_lm", dtype)
    ids, mask = inputs(flax_backend)
    loss = jax.jit(lambda params: model(ids, mask, params=params, labels=ids).loss)
    for gradient in jax.tree.leaves(jax.grad(loss)(model.params)):
        values = np.asarray(gradient, np.float32)
        assert np.isfinite(values).all()
        assert values.any()


def test_ids_that_nobody_could_check_give_finite_results_under_jit(flax_backend):
    import jax
    import jax.numpy as jnp

    model = tiny_model("flax")
    call = jax.jit(lambda ids: model(ids, params=model.params).logits)
    assert np.isfinite(np.asarray(call(jnp.array([[3, 1000, -7]])))).all()


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3}], ids=["greedy", "sampled"])
def test_generate_works_inside_jit(flax_backend, options):
    import jax

    model = tiny_model("flax", n_layer=1)
    options = {"max_new_tokens": 6, "eos_token_id": None, **options}
    call = jax.jit(lambda params, ids, mask: model.generate(ids, mask, params=params, **options))
    expected = flax_backend.to_numpy(model.generate(IDS, LEFT, **options))
    found = call(model.params, *inputs(flax_backend))
    np.testing.assert_array_equal(np.asarray(found), expected)
