"""OpenVINO: positions, what its plugin fuses, the cache's arrays, float32 throughout."""

import numpy as np
import pytest

pytest.importorskip("openvino")

import openvino as ov

from engine_cases import IDS, LEFT
from gptj.backends import get_backend
from gptj.backends.openvino.graph import call_graph, text_graph
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import oracle, run, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

BACKEND = get_backend("openvino")


def compiled(graph):
    return ov.Core().compile_model(graph, "CPU", {"KV_CACHE_PRECISION": "f32"})


def lazy(head="causal_lm", dtype="float32"):
    weights = tiny_weights(head)
    return {name: LazyTensor.of(array.astype(np.dtype(dtype))) for name, array in weights.items()}


@pytest.mark.parametrize("positions", [np.arange(7, 18)[None], IDS % 60], ids=["one row", "each"])
def test_positions_are_the_callers(positions):
    inputs = {"input_ids": IDS, "position_ids": positions}
    found = run(BACKEND, tiny_model("openvino"), **inputs).logits
    assert_close(found, oracle(**inputs).logits, "engine", "logits")


def test_state_attention_and_rotary_positions_are_fused():
    graph = text_graph(tiny_config(), "causal_lm", lazy())
    operations = compiled(graph).get_runtime_model().get_ops()
    found = [operation.get_rt_info()["layerType"].astype(str) for operation in operations]
    layers = tiny_config().n_layer
    assert found.count("RoPE") == 2 * layers
    assert found.count("ScaledDotProductAttention") == layers
    assert found.count("MemoryInput") == 2 * layers
    assert found.count("Concatenation") <= 1  # of shapes: no cache is copied


def test_keys_and_values_of_a_cache_equal_the_oracle():
    output = run(BACKEND, tiny_model("openvino"), input_ids=IDS, use_cache=True)
    expected = oracle(input_ids=IDS)
    for layer in range(tiny_config().n_layer):
        for found, true in zip(
            output.past_key_values[layer], expected.past_key_values[layer], strict=True
        ):
            assert_close(found, true, "engine", f"layer {layer}")
    last = output.past_key_values[-1][0]
    assert_close(last, expected.past_key_values[-1][0], "engine", "last layer")


def test_an_empty_cache_has_no_tokens():
    cache = BACKEND.init_cache(tiny_model("openvino"), 3, 8)
    assert (len(cache), cache.length) == (2, 0)
    assert cache[0][0].shape == (3, 4, 0, 10)
    assert cache.expand(2)[1][1].shape == (6, 4, 0, 10)


def test_a_cache_of_another_model_goes_on_in_this_one():
    other = BACKEND.build(tiny_config(), "causal_lm", params=lazy())
    cache = run(BACKEND, other, input_ids=IDS[:, :6], use_cache=True).past_key_values
    model = tiny_model("openvino", layer_norm_epsilon=0.01)
    found = run(BACKEND, model, input_ids=IDS[:, 6:], past_key_values=cache).logits
    layers = [cache[layer] for layer in range(len(cache))]
    inputs = {"input_ids": IDS[:, 6:], "past_key_values": layers}
    expected = oracle(changes={"layer_norm_epsilon": 0.01}.items(), **inputs).logits
    assert_close(found, expected, "engine", "logits")


@pytest.mark.parametrize("head", BACKEND.capabilities.heads)
def test_a_graph_for_whole_texts_equals_the_oracle(head):
    found = compiled(call_graph(tiny_config(), head, lazy(head)))((IDS, LEFT))[0]
    expected = oracle(head, input_ids=IDS, attention_mask=LEFT)
    if head == "sequence_classification":
        assert_close(found, expected.logits, "engine", "logits")
        return
    names = ("last_hidden_state", "logits") if head != "question_answering" else ()
    true = [expected[name] for name in names if name in expected] or [
        np.stack((expected.start_logits, expected.end_logits), axis=-1)
    ]
    assert_close(found[LEFT != 0], true[0][LEFT != 0], "engine", head)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_half_precision_are_computed_with_in_float32(dtype):
    found = compiled(call_graph(tiny_config(), "causal_lm", lazy(dtype=dtype)))((IDS, LEFT))[0]
    halved = {name: np.asarray(tensor, np.float64) for name, tensor in lazy(dtype=dtype).items()}
    expected = forward(tiny_config(), halved, input_ids=IDS, attention_mask=LEFT).logits
    assert_close(found[LEFT != 0], expected[LEFT != 0], "engine", "logits")
