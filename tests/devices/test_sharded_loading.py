"""Flax's `sharding`: parameters are read straight into the devices that they are divided over.

What needs several devices is in ``eight_devices`` and runs in a process that has as many.
"""

from types import SimpleNamespace

import pytest

from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.heads import HEADS
from models import tiny_config, tiny_weights
from paths import TINY
from virtual_devices import assert_passes_over_eight_devices

pytestmark = pytest.mark.frameworks


@pytest.fixture
def parallel(flax_backend):
    """The module that turns what is asked for into shardings."""
    from gptj.backends.flax import parallel

    return parallel


@pytest.fixture
def load(flax_backend):
    """A function that loads the tiny model."""
    return lambda **options: load_model(flax_backend, "causal_lm", TINY, **options)


def invented_mesh(**sizes):
    """Return what a mesh of any size tells about itself."""
    return SimpleNamespace(shape=sizes, axis_names=tuple(sizes))


def specs(parallel, mesh, config=None, head="causal_lm"):
    from flax.traverse_util import flatten_dict

    tree = parallel.partition_specs(config or tiny_config(), head, mesh)
    return {path: tuple(spec) for path, spec in flatten_dict(tree, sep="/").items()}


def test_over_eight_devices_everything_is_as_on_one(flax_backend):
    assert_passes_over_eight_devices("eight_devices.py")


def test_the_axes_of_a_mesh_may_be_explicit_or_automatic(flax_backend):
    assert_passes_over_eight_devices("eight_devices_axes.py")


def test_weights_are_divided_by_heads_width_and_vocabulary(parallel):
    assert specs(parallel, invented_mesh(data=2, model=4)) | {
        "transformer/h/0/attn/q_proj/kernel": (None, "model"),
        "transformer/h/1/attn/v_proj/kernel": (None, "model"),
        "transformer/h/0/attn/out_proj/kernel": ("model", None),
        "transformer/h/0/mlp/fc_in/kernel": (None, "model"),
        "transformer/h/0/mlp/fc_in/bias": ("model",),
        "transformer/h/0/mlp/fc_out/kernel": ("model", None),
        "transformer/wte/embedding": ("model", None),
        "lm_head/kernel": (None, "model"),
        "lm_head/bias": ("model",),
        "transformer/h/0/mlp/fc_out/bias": (),
        "transformer/h/0/ln_1/scale": (),
        "transformer/ln_f/bias": (),
    } == specs(parallel, invented_mesh(data=2, model=4))


@pytest.mark.parametrize("head", HEADS)
def test_the_specs_are_a_tree_like_the_parameters(parallel, flax_backend, head):
    import jax

    model = flax_backend.build(tiny_config(), head)
    tree = parallel.partition_specs(tiny_config(), head, invented_mesh(model=2))
    assert jax.tree.structure(tree) == jax.tree.structure(model.params)


def test_what_cannot_be_divided_is_everywhere(parallel):
    divided = {path for path, spec in specs(parallel, invented_mesh(model=7)).items() if any(spec)}
    assert {path.split("/")[-2] for path in divided} == {"fc_in", "fc_out"}  # 112 = 7 x 16


def test_a_head_is_never_divided(parallel):
    found = specs(parallel, invented_mesh(model=8))  # 4 heads in a width of 40 = 8 x 5
    assert found["transformer/h/0/attn/q_proj/kernel"] == ()


def test_the_published_size_is_divided_by_eight_everywhere(parallel):
    found = specs(parallel, invented_mesh(data=1, model=8), GPTJConfig())
    whole = {path.split("/")[-2] for path, spec in found.items() if not any(spec)}
    assert whole == {"ln_1", "ln_f", "fc_out"}  # of fc_out the bias


def test_without_an_axis_for_the_model_everything_is_everywhere(parallel):
    assert set(specs(parallel, invented_mesh(data=8)).values()) == {()}


def test_a_mesh_of_one_device_loads_like_a_device(load):
    import jax
    import numpy as np
    from jax.sharding import Mesh

    one = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    kernel = load(sharding=one).params["lm_head"]["kernel"]
    assert kernel.sharding.mesh == one
    assert kernel.shape == tiny_weights()["lm_head.weight"].shape[::-1]


def wrong(case):
    """Return something that `sharding` does not accept."""
    import jax
    from jax.sharding import PartitionSpec

    return {
        "a name": "model",
        "a spec": PartitionSpec(),
        "another axis": jax.make_mesh((1,), ("x",)),
        "a function to None": lambda name, shape: None,
        "a function to specs": lambda name, shape: PartitionSpec(),
        "an empty tree": {},
        "a wrong path": {"lm_haed": {"kernel": None}},
    }[case]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a name", "sharding 'model' is none; accepted are a jax.sharding.Sharding, a Mesh"),
        ("a spec", r"sharding .* is none; accepted are a jax.sharding.Sharding, a Mesh"),
        ("another axis", "The mesh has an axis 'x'; accepted are 'data' and 'model'"),
        ("a function to None", "gives None for transformer/wte/embedding, which is no jax.shard"),
        ("a function to specs", r"becomes one with its mesh: NamedSharding\(mesh, spec\)"),
        ("an empty tree", r"missing are 'transformer/wte/embedding', .* and 22 more, unexpected"),
        ("a wrong path", "unexpected are 'lm_haed/kernel'"),
    ],
    ids=str,
)
def test_what_is_no_sharding_is_refused(load, case, message):
    with pytest.raises(ArgumentError, match=message):
        load(sharding=wrong(case))


def test_device_and_sharding_exclude_each_other(load):
    with pytest.raises(ArgumentError, match=r"device 'cpu' and sharding .* exclude each other"):
        load(device="cpu", sharding=lambda name, shape: None)


@pytest.mark.parametrize("name", ["torch_backend", "tf_backend"])
def test_only_flax_takes_a_sharding(request, name):
    backend = request.getfixturevalue(name)
    with pytest.raises(ArgumentError, match="Loading has no argument 'sharding'"):
        load_model(backend, "causal_lm", TINY, sharding=None)
