"""Module names are an interface: every named output, in every framework, against the oracle."""

import numpy as np
import pytest

from gptj.spec.reference import ops
from models import draw_ids, oracle, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 7), seed=51)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4])
INPUTS = {"input_ids": IDS, "attention_mask": LEFT}


def expected_outputs():
    """Return what the modules of the first block, and those around it, compute in float64."""
    config, weights = tiny_config(), tiny_weights()
    output = oracle(**INPUTS)
    w = {name: ops.read(value, np.float64) for name, value in weights.items()}
    first = "transformer.h.0."
    norm = ops.layer_norm(
        output.hidden_states[0],
        w[first + "ln_1.weight"],
        w[first + "ln_1.bias"],
        config.layer_norm_epsilon,
    )
    inner = norm @ w[first + "mlp.fc_in.weight"].T + w[first + "mlp.fc_in.bias"]
    mlp = ops.gelu_new(inner) @ w[first + "mlp.fc_out.weight"].T + w[first + "mlp.fc_out.bias"]
    block = output.hidden_states[1]
    return {
        "transformer.wte": output.hidden_states[0],
        first + "ln_1": norm,
        first + "attn.q_proj": norm @ w[first + "attn.q_proj.weight"].T,
        first + "attn.v_proj": norm @ w[first + "attn.v_proj.weight"].T,
        first + "attn.out_proj": block - mlp - output.hidden_states[0],
        first + "attn": block - mlp - output.hidden_states[0],
        first + "mlp.fc_in": inner,
        first + "mlp.fc_out": mlp,
        first + "mlp": mlp,
        "transformer.h.0": block,
        "transformer.ln_f": output.hidden_states[-1],
        "lm_head": output.logits,
    }


EXPECTED = expected_outputs()


@pytest.fixture(scope="module")
def captured():
    """Return each backend's captured outputs, computed once."""
    found = {}

    def capture(backend):
        if backend.name not in found:
            model = tiny_model(backend.name)
            inputs = {name: backend.from_numpy(array, model) for name, array in INPUTS.items()}
            found[backend.name] = backend.capture(model, list(EXPECTED), **inputs)
        return found[backend.name]

    return capture


@pytest.mark.parametrize("name", EXPECTED)
def test_a_named_module_gives_what_the_oracle_computes(framework, captured, name):
    _, outputs = captured(framework)
    found = framework.to_numpy(outputs[name])[LEFT != 0]
    assert_close(found, EXPECTED[name][LEFT != 0], "float32", name)


def test_a_capture_returns_the_output_too_with_attentions(framework, captured):
    output, outputs = captured(framework)
    expected = oracle(**INPUTS)
    assert set(outputs) == set(EXPECTED)
    kept = LEFT != 0
    assert_close(
        framework.to_numpy(output.logits)[kept], expected.logits[kept], "float32", "logits"
    )
    assert len(output.attentions) == tiny_config().n_layer


def test_a_base_model_names_its_modules_without_the_prefix(framework):
    model = tiny_model(framework.name, "base")
    ids = framework.from_numpy(IDS, model)
    _, outputs = framework.capture(model, ["h.1.mlp.fc_out"], input_ids=ids)
    assert framework.to_numpy(outputs["h.1.mlp.fc_out"]).shape == (*IDS.shape, tiny_config().n_embd)
