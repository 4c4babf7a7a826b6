"""Generation that is compiled: few compilations for many lengths, and graphs that are exported."""

import numpy as np
import pytest

from agreement import Steps
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from models import draw_ids, tiny_model

pytestmark = pytest.mark.frameworks

LONG = {"n_positions": 256}
IDS = draw_ids((2, 7), seed=71)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4])
SAMPLED = {"do_sample": True, "seed": 5, "top_k": 8}


def write_a_hundred_lengths(model):
    """Generate from prompts of 1 to 100 tokens, as they come in a server."""
    for length in np.random.default_rng(0).permutation(100) + 1:
        model.generate(draw_ids((1, int(length)), seed=length), max_new_tokens=3)


def test_a_hundred_lengths_compile_a_handful_of_times_in_flax(flax_backend):
    from gptj.backends.flax import compiled_loop

    before = compiled_loop.prefill_and_decode._cache_size()
    write_a_hundred_lengths(tiny_model("flax", **LONG))
    assert 0 < compiled_loop.prefill_and_decode._cache_size() - before <= 3


def test_a_hundred_lengths_compile_a_handful_of_times_in_tensorflow(tf_backend, monkeypatch):
    from gptj.backends.tf import shared_programs

    monkeypatch.setattr(shared_programs, "_programs", {})
    model = tiny_model("tf", **LONG)
    model.functions.compiled.clear()
    write_a_hundred_lengths(model)
    assert 0 < len(model.functions.compiled) + len(shared_programs._programs) <= 3


def test_a_hundred_lengths_compile_a_handful_of_times_in_pytorch(torch_backend):
    import torch
    from torch._dynamo.testing import CompileCounter

    model, counter = tiny_model("torch", n_positions=257), CompileCounter()
    expected = model.generate(torch.tensor(IDS), torch.tensor(LEFT), max_new_tokens=5)
    model.compile(backend=counter)
    found = model.generate(torch.tensor(IDS), torch.tensor(LEFT), max_new_tokens=5)
    np.testing.assert_array_equal(found, expected)
    write_a_hundred_lengths(model)
    assert 0 < counter.frame_count <= 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loop_in_flax_writes_into_its_cache_and_copies_nothing_of_it(flax_backend, dtype):
    from gptj.backends.flax import compiled_loop
    from gptj.backends.flax.compiled_forward import Program
    from gptj.backends.flax.sampling import as_arrays

    model = tiny_model("flax", n_positions=8192, dtype=dtype)
    plan = as_arrays(make_plan(GenerationConfig(seed=1), IDS.shape[1], model.config))
    program, params = Program.of(model.module), model.params
    ids = IDS[:1].astype(np.int32)  # a single sequence, of which XLA would copy the cache
    mask, ends = np.ones_like(ids), (np.int32(1), np.int32(0))
    state = compiled_loop.prefill_and_decode(program, (8192, 64), params, ids, mask, plan, ends)
    keys = state.cache.layers[0][0].nbytes
    lowered = compiled_loop.continue_decode.lower(program, params, state, plan, ends)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < keys


@pytest.mark.parametrize(("dtype", "streamer"), [("bfloat16", None), ("float32", Steps())])
def test_what_tensorflow_runs_without_xla_copies_nothing_of_its_cache(tf_backend, dtype, streamer):
    model = tiny_model("tf", dtype=dtype)
    model.functions.compiled.clear()
    model.generate(IDS, LEFT, max_new_tokens=3, streamer=streamer)
    (compiled,) = model.functions.compiled.values()
    graph = compiled.graph.as_graph_def()
    functions = (function.node_def for function in graph.library.function)
    names = [node.op for nodes in (graph.node, *functions) for node in nodes]
    assert names.count("InplaceUpdate") == 2 * model.config.n_layer
    assert "TensorScatterUpdate" not in names


def test_tensorflow_attends_to_the_filled_part_where_shapes_may_change(tf_backend):
    import tensorflow as tf

    from gptj.backends.tf.cache import in_own_graph

    base = tiny_model("tf").transformer
    cache = base(IDS, past_key_values=base.init_cache(2, 64)).past_key_values
    own = tf.zeros((2, 1, 3, 64))  # a caller's, as wide as the cache
    for mask in (None, tf.ones((2, 64), tf.int32), own):
        in_graph = tf.function(lambda: base.mask(mask, 3, cache), autograph=False)  # noqa: B023
        assert base.mask(mask, 3, cache).shape[2:] == (3, 10)
        assert in_graph().shape[2:] == (3, 64)  # XLA may compile it
        with in_own_graph():
            found = tf.function(lambda: base.mask(mask, 3, cache), autograph=False)()  # noqa: B023
        np.testing.assert_array_equal(found, base.mask(mask, 3, cache))
        np.testing.assert_array_equal(found, in_graph()[..., :10])


def test_a_streamed_text_compiles_once_in_flax(flax_backend):
    from gptj.backends.flax import compiled_loop

    model = tiny_model("flax")
    before = compiled_loop.continue_decode._cache_size()
    for count in (4, 9, 9):
        model.generate(IDS, LEFT, max_new_tokens=count, eos_token_id=None, streamer=Steps())
    assert compiled_loop.continue_decode._cache_size() - before <= 1


def test_pytorch_is_as_its_caller_left_it_between_two_streamed_tokens(torch_backend):
    import torch

    model = tiny_model("torch").train()
    plan = make_plan(GenerationConfig(max_new_tokens=3, eos_token_id=None), 7, model.config)
    pieces = torch_backend.stream(model, torch.tensor(IDS), torch.tensor(LEFT), plan)
    for tokens in pieces:
        assert tokens.shape == (2, 1)
        assert model.training
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("options", "jit"), [({}, False), (SAMPLED, True)], ids=["greedy-graph", "sampled-xla"]
)
def test_a_saved_model_generates_from_prompts_of_any_shape(tf_backend, tmp_path, options, jit):
    import tensorflow as tf

    model = tiny_model("tf")
    options = {"max_new_tokens": 6, "eos_token_id": None, **options}
    shape = tf.TensorSpec((None, None), tf.int32)

    @tf.function(input_signature=[shape, shape], jit_compile=jit)
    def serve(input_ids, attention_mask):
        return {"sequences": model.generate(input_ids, attention_mask, **options)}

    module = tf.Module()
    module.model, module.serve = model, serve
    tf.saved_model.save(module, str(tmp_path), signatures=serve.get_concrete_function())
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    for ids, mask in ((IDS, LEFT), (IDS[:1, :3], LEFT[:1, :3])):
        expected = tf_backend.to_numpy(model.generate(ids, mask, **options))
        tensors = (tf.constant(given, tf.int32) for given in (ids, mask))
        names = ("input_ids", "attention_mask")
        found = loaded(**dict(zip(names, tensors, strict=True)))
        np.testing.assert_array_equal(found["sequences"].numpy(), expected)


def test_a_graph_for_any_length_needs_max_new_tokens(tf_backend):
    import tensorflow as tf

    from gptj.errors import ArgumentError

    shape = tf.TensorSpec((None, None), tf.int32)
    call = tf.function(lambda ids: tiny_model("tf").generate(ids, max_length=20))
    with pytest.raises(ArgumentError, match="give max_new_tokens"):
        call.get_concrete_function(shape)


def test_what_only_the_reference_decoder_can_is_refused_while_tracing(flax_backend):
    import jax

    from gptj.errors import ArgumentError

    model = tiny_model("flax")
    call = jax.jit(lambda ids: model.generate(ids, num_beams=2, max_new_tokens=3))
    with pytest.raises(ArgumentError, match="Inside a compiled function generate\\(\\) has"):
        call(IDS)
