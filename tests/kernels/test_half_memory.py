"""Parameters of two bytes or one stay so: XLA on a CPU would upcast them all before a loop."""

import numpy as np
import pytest

from models import tiny_model
from quantized_cases import quantized_model

pytestmark = pytest.mark.frameworks

WIDE = {"n_embd": 256, "n_head": 4, "n_layer": 4, "rotary_dim": 16, "n_inner": 1024}


@pytest.fixture(params=["bfloat16", "float16", "int8"])
def model(request, flax_backend):
    if request.param == "int8":
        return quantized_model("flax", dtype="bfloat16", **WIDE)
    return tiny_model("flax", dtype=request.param, **WIDE)


def weight_bytes(model):
    import jax

    return sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))


def test_a_compiled_loop_holds_no_copy_of_its_weights(model):
    from gptj.backends.flax import compiled_loop
    from gptj.backends.flax.compiled_forward import Program
    from gptj.backends.flax.sampling import as_arrays
    from gptj.generation.decode_plan import make_plan
    from gptj.generation.options import GenerationConfig

    ids = np.full((1, 8), 7, np.int32)
    plan = make_plan(GenerationConfig(seed=1), 8, model.config)
    program, mask, ends = Program.of(model.module), np.ones_like(ids), (np.int32(8), np.int32(0))
    lowered = compiled_loop.prefill_and_decode.lower(
        program, (16, 8), model.params, ids, mask, as_arrays(plan), ends
    )
    temporary = lowered.compile().memory_analysis().temp_size_in_bytes
    assert temporary < 0.5 * weight_bytes(model)  # upcast, they are twice as large as before


def test_a_plain_forward_holds_no_copy_of_its_weights(model):
    import jax

    ids = np.full((1, 8), 7, np.int32)

    def forward(params):
        return model.module.apply({"params": params}, input_ids=ids).logits

    compiled = jax.jit(forward).lower(model.params).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 0.5 * weight_bytes(model)
