"""``jax.export``: open batches and lengths, several platforms, and files that others read."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("flatbuffers", reason="the files of jax.export need it")

import jax.numpy as jnp
from jax import export

from gptj.backends.flax.cache import KVCache
from gptj.errors import ArgumentError
from gptj.spec.heads import HEADS
from gptj.spec.outputs import ModelOutput
from meshes import build
from models import draw_ids, tiny_model
from quantized_cases import quantized_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = jnp.asarray(draw_ids((3, 7), seed=61), jnp.int32)
MASK = jnp.ones_like(IDS).at[1, :3].set(0)
PLATFORMS = ["cpu", "cuda", "tpu"]


def sizes(text):
    """Return symbolic sizes without any constraint."""
    return export.symbolic_shape(text)


def like(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def ids_of(shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def written(function, *arguments):
    """Export a function for all platforms, and return what a file of it holds."""
    return export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).serialize()


def read_again(function, *arguments):
    return export.deserialize(written(function, *arguments)).call


@pytest.mark.parametrize("head", HEADS)
def test_batch_and_length_of_a_forward_may_be_open(head):
    model = tiny_model("flax", head)

    def call(params, ids, mask):
        return model(ids, mask, params=params, use_cache=False).to_tuple()

    shape = ids_of(sizes("b, l"))
    exported = read_again(call, like(model.params), shape, shape)
    for rows, length in ((1, 1), (2, 4), (3, 7)):
        given = IDS[:rows, :length], jnp.ones((rows, length), jnp.int32)
        for found, wanted in zip(
            exported(model.params, *given), call(model.params, *given), strict=True
        ):
            assert_close(found, np.asarray(wanted), "float32", head)


def test_a_loss_and_its_gradient_may_have_an_open_batch():
    model = tiny_model("flax")

    def call(params, ids):
        return jax.value_and_grad(lambda p: model(ids, params=p, labels=ids).loss)(params)

    found = read_again(call, like(model.params), ids_of(sizes("b, l")))(model.params, IDS)
    jax.tree.map(
        lambda a, b: assert_close(a, np.asarray(b), "float32", "gradient"),
        found,
        call(model.params, IDS),
    )


def load(kind):
    """Return a tiny model whose matmuls have kernels of their own."""
    if kind == "int8":
        return quantized_model("flax", n_layer=1)
    return tiny_model("flax", dtype=kind, n_layer=1)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_a_decode_loop_may_have_an_open_batch(kind):
    model = load(kind)

    def write(params, ids, mask):
        return model.generate(ids, mask, params=params, max_new_tokens=4)

    (batch,) = sizes("b")
    shape = ids_of((batch, 7))
    exported = read_again(write, like(model.params), shape, shape)
    expected = model.generate(IDS, MASK, max_new_tokens=4).tolist()
    for rows in (1, 3):
        found = exported(model.params, IDS[:rows], MASK[:rows])
        assert found.tolist() == expected[:rows]


def test_a_key_may_be_an_argument_of_an_exported_loop():
    model = tiny_model("flax")
    options = {"do_sample": True, "max_new_tokens": 4}
    (batch,) = sizes("b")
    exported = read_again(
        lambda params, ids, key: model.generate(ids, params=params, prng_key=key, **options),
        like(model.params),
        ids_of((batch, 7)),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    found = exported(model.params, IDS, jax.random.PRNGKey(5))
    assert found.tolist() == model.generate(IDS, seed=5, **options).tolist()


def test_an_open_length_of_prompts_is_refused():
    model = tiny_model("flax")
    with pytest.raises(ArgumentError, match=r"the length of its prompts; found l\. A graph may"):
        written(lambda ids: model.generate(ids, max_new_tokens=2), ids_of(sizes("b, l")))


def test_an_output_with_its_cache_is_written_and_read():
    model = tiny_model("flax")
    cache = model.init_cache(3, 8)

    def step(params, ids, cache):
        return model(ids, params=params, past_key_values=cache, output_hidden_states=True)

    shapes = like(model.params), ids_of((3, 7)), jax.eval_shape(lambda: model.init_cache(3, 8))
    found = read_again(step, *shapes)(model.params, IDS, cache)
    wanted = step(model.params, IDS, cache)
    assert isinstance(found, ModelOutput) and isinstance(found.past_key_values, KVCache)
    assert found.past_key_values.preallocated and int(found.past_key_values.length) == 7
    assert list(found) == list(wanted)
    assert_close(found.logits, np.asarray(wanted.logits), "float32", "logits")
    keys = (output.past_key_values.layers[1][0] for output in (found, wanted))
    assert_close(next(keys), np.asarray(next(keys)), "float32", "keys")


def test_an_adapter_may_be_among_the_arguments():
    model = build(None)
    model.add_lora(2)
    model.params = jax.tree.map(lambda leaf: leaf + 0.01, model.params)

    def call(params, ids):
        return model(ids, params=params).logits

    found = read_again(call, like(model.params), ids_of((3, 7)))(model.params, IDS)
    assert_close(found, np.asarray(model(IDS).logits), "float32", "logits")


READER = """
import sys
sys.modules["gptj"] = None  # not importable
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import export
folder = sys.argv[1]
arrays = np.load(folder + "/arrays.npz")
params = unflatten_dict({k[2:]: arrays[k] for k in arrays if k.startswith("p:")}, sep="/")
forward, write = (
    export.deserialize(open(f"{folder}/{name}", "rb").read()) for name in ("forward", "write")
)
assert set(write.platforms) == {"cpu", "cuda", "tpu"}
logits = forward.call(params, arrays["ids"])["logits"]
assert logits.shape == arrays["logits"].shape and np.abs(logits - arrays["logits"]).max() < 1e-4
assert write.call(params, arrays["ids"]).tolist() == arrays["written"].tolist()
print("read")
"""


def test_a_process_without_the_package_reads_plain_outputs(tmp_path):
    from flax.traverse_util import flatten_dict

    model = tiny_model("flax")

    def forward(params, ids):
        return dict(model(ids, params=params, use_cache=False))

    def write(params, ids):
        return model.generate(ids, params=params, max_new_tokens=4)

    (batch,) = sizes("b")
    for function, shape in ((forward, sizes("b, l")), (write, (batch, 7))):
        content = written(function, like(model.params), ids_of(shape))
        (tmp_path / function.__name__).write_bytes(content)
    leaves = flatten_dict(model.params, sep="/")
    arrays = {f"p:{path}": np.asarray(leaf) for path, leaf in leaves.items()}
    arrays |= {"ids": np.asarray(IDS), "logits": np.asarray(model(IDS).logits)}
    np.savez(tmp_path / "arrays.npz", **arrays, written=model.generate(IDS, max_new_tokens=4))
    command = [sys.executable, "-c", READER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "read", done.stderr
