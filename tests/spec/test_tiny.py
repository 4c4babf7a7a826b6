"""``weights/tiny``: the fixture of the parity tests keeps what makes it a good one."""

import importlib.util

import numpy as np
import pytest

from gptj.spec.params import initial_value, parameter_table
from models import checkpoint_weights
from paths import TINY

pytestmark = pytest.mark.neutral

CONFIG, TENSORS = checkpoint_weights(TINY)


def test_no_two_sizes_are_equal():
    sizes = [
        *(CONFIG.vocab_size, CONFIG.n_positions, CONFIG.n_embd, CONFIG.n_layer, CONFIG.n_head),
        *(CONFIG.head_dim, CONFIG.rotated_dim, CONFIG.inner_dim),
    ]
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("name", parameter_table(CONFIG))
def test_every_tensor_is_far_from_its_initial_value(name):
    initial = initial_value(parameter_table(CONFIG)[name], CONFIG)
    assert 0.2 < np.std(TENSORS[name].read() - initial) < 0.4


def test_the_recipe_makes_the_file():
    spec = importlib.util.spec_from_file_location("make", TINY / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    generator = np.random.Generator(np.random.PCG64(make.SEED))
    for name, parameter in parameter_table(CONFIG).items():
        drawn = make.draw(parameter, generator).read()
        np.testing.assert_allclose(drawn, TENSORS[name].read(), rtol=1e-6, err_msg=name)
