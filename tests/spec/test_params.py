"""The table of parameters: names, shapes, axes, counts and first values."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.params import count_parameters, initial_value, parameter_table

pytestmark = pytest.mark.neutral

V, D, F, L = 50_400, 4_096, 16_384, 28
BLOCK = {
    "ln_1.weight": ((D,), ("embed",)),
    "ln_1.bias": ((D,), ("embed",)),
    "attn.q_proj.weight": ((D, D), ("heads", "embed")),
    "attn.k_proj.weight": ((D, D), ("heads", "embed")),
    "attn.v_proj.weight": ((D, D), ("heads", "embed")),
    "attn.out_proj.weight": ((D, D), ("embed", "heads")),
    "mlp.fc_in.weight": ((F, D), ("mlp", "embed")),
    "mlp.fc_in.bias": ((F,), ("mlp",)),
    "mlp.fc_out.weight": ((D, F), ("embed", "mlp")),
    "mlp.fc_out.bias": ((D,), ("embed",)),
}
BASE = {
    "wte.weight": ((V, D), ("vocab", "embed")),
    **{f"h.{i}.{name}": entry for i in range(L) for name, entry in BLOCK.items()},
    "ln_f.weight": ((D,), ("embed",)),
    "ln_f.bias": ((D,), ("embed",)),
}
OWN = {
    "base": {},
    "causal_lm": {
        "lm_head.weight": ((V, D), ("vocab", "embed")),
        "lm_head.bias": ((V,), ("vocab",)),
    },
    "sequence_classification": {"score.weight": ((2, D), ("labels", "embed"))},
    "question_answering": {
        "qa_outputs.weight": ((2, D), ("labels", "embed")),
        "qa_outputs.bias": ((2,), ("labels",)),
    },
}
SMALL = GPTJConfig(vocab_size=500, n_positions=8, n_embd=40, n_layer=2, n_head=4, rotary_dim=6)


def expected(head):
    prefix = "" if head == "base" else "transformer."
    return {**{prefix + name: entry for name, entry in BASE.items()}, **OWN[head]}


@pytest.mark.parametrize(("head", "count"), [("causal_lm", 6_050_882_784), ("base", 5_844_393_984)])
def test_the_6b_has_as_many_parameters_as_published(head, count):
    assert count_parameters(GPTJConfig(), head) == count


@pytest.mark.parametrize("head", HEADS)
def test_names_shapes_and_axes_are_those_of_the_published_checkpoint(head):
    table = parameter_table(GPTJConfig(), head)
    assert {name: (p.shape, p.axes) for name, p in table.items()} == expected(head)


@pytest.mark.parametrize("head", HEADS)
def test_a_parameter_knows_its_own_name(head):
    assert all(name == parameter.name for name, parameter in parameter_table(SMALL, head).items())


def test_parameters_stand_in_the_order_of_the_computation():
    names = list(parameter_table(SMALL))
    assert names[0] == "transformer.wte.weight"
    assert names[-2:] == ["lm_head.weight", "lm_head.bias"]
    assert names.index("transformer.h.1.ln_1.weight") < names.index("transformer.ln_f.weight")


def test_a_tied_head_has_a_bias_of_its_own_and_no_weight():
    tied = GPTJConfig(tie_word_embeddings=True)
    assert parameter_table(GPTJConfig()).keys() - parameter_table(tied) == {"lm_head.weight"}


def test_the_classifier_is_as_wide_as_there_are_labels():
    table = parameter_table(GPTJConfig(num_labels=5), "sequence_classification")
    assert table["score.weight"].shape == (5, D)


def test_an_unknown_head_suggests_the_nearest():
    with pytest.raises(ArgumentError, match=r"Unknown head 'causal_ml'. Did you mean 'causal_lm'"):
        parameter_table(GPTJConfig(), "causal_ml")


@pytest.mark.parametrize(("kind", "value"), [("norm_weight", 1.0), ("norm_bias", 0.0)])
def test_norms_start_as_the_identity(kind, value):
    for parameter in parameter_table(SMALL).values():
        if parameter.kind == kind:
            assert (initial_value(parameter, SMALL) == value).all()


def test_biases_start_at_zero():
    biases = [p for p in parameter_table(SMALL).values() if p.kind == "linear_bias"]
    assert len(biases) == 5
    assert all((initial_value(bias, SMALL) == 0).all() for bias in biases)


@pytest.mark.parametrize("spread", [0.02, 0.1])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.h.1.mlp.fc_in.weight"])
def test_matrices_start_with_the_configured_deviation(name, spread):
    config = GPTJConfig.from_dict(SMALL.to_dict(), initializer_range=spread)
    value = initial_value(parameter_table(config)[name], config).astype(np.float64)
    sampling_error = spread / np.sqrt(2 * value.size)
    assert abs(value.std() - spread) < 4 * sampling_error
    assert abs(value.mean()) < 4 * spread / np.sqrt(value.size)


@pytest.mark.parametrize("head", [head for head in HEADS if head != "base"])
def test_a_base_model_starts_the_same_inside_every_head(head):
    inside, alone = parameter_table(SMALL, head), parameter_table(SMALL, "base")
    for name, parameter in alone.items():
        np.testing.assert_array_equal(
            initial_value(inside[f"transformer.{name}"], SMALL), initial_value(parameter, SMALL)
        )


def test_a_first_value_is_float32_of_the_right_shape():
    for parameter in parameter_table(SMALL).values():
        value = initial_value(parameter, SMALL)
        assert (value.shape, value.dtype) == (parameter.shape, np.float32)


def test_the_same_seed_draws_the_same_values():
    parameter = parameter_table(SMALL)["lm_head.weight"]
    np.testing.assert_array_equal(
        initial_value(parameter, SMALL, seed=3), initial_value(parameter, SMALL, seed=3)
    )


@pytest.mark.parametrize(
    ("name", "seed"), [("lm_head.weight", 4), ("transformer.wte.weight", 3)], ids=["seed", "name"]
)
def test_another_seed_or_name_draws_other_values(name, seed):
    table = parameter_table(SMALL)
    first = initial_value(table["lm_head.weight"], SMALL, seed=3)
    second = initial_value(table[name], SMALL, seed=seed)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def test_the_first_values_are_the_same_on_every_machine():
    value = initial_value(parameter_table(SMALL)["transformer.h.0.attn.q_proj.weight"], SMALL)
    np.testing.assert_allclose(value[0, :3], [0.041106995, -0.0050177071, 0.035298117], rtol=1e-6)
