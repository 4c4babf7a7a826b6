"""The tolerance catches the known mistakes, and lets rounding pass.

Each mistake is one that somebody made in a GPT-J. On weights redrawn with standard deviation 0.3
(``weights/tiny``) every one of them exceeds the tolerance; at the usual initialisation all of them
together would pass the 4e-2 that is usual elsewhere, which is why no test here uses those weights.
"""

import numpy as np
import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.diagnosis.computation import Inputs, right_computation
from gptj.diagnosis.evidence import Evidence, recorded
from gptj.diagnosis.hypothesis import Suspect
from gptj.diagnosis.table import HYPOTHESES
from gptj.model.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import forward
from paths import TINY
from tolerances import assert_close, difference, limit

pytestmark = pytest.mark.neutral

LOOSE = 4e-2
IDS = np.random.Generator(np.random.PCG64(5)).integers(0, 96, (2, 17))


def config(**changes):
    return GPTJConfig.from_json_file(TINY / "config.json", **changes)


def redrawn():
    return {name: tensor.read() for name, tensor in open_checkpoint(TINY).tensors.items()}


def initial():
    table = parameter_table(config()).values()
    return {parameter.name: initial_value(parameter, config()) for parameter in table}


def logits(weights, **changes):
    return forward(config(**changes), weights, input_ids=IDS).logits


def wrong_logits(weights, mistake):
    """Return the logits with a known mistake: its name, and its value where it has some."""
    name, value = mistake
    inputs = Inputs(IDS)
    right = right_computation(config(), weights, inputs)
    wrong = Suspect(HYPOTHESES[name], value).apply(right)
    nothing = Evidence(inputs, {"lm_head": np.zeros(0)})
    return recorded(wrong, nothing).arrays["lm_head"]


LARGE = [
    ("rotary_missing", None),
    ("queries_transposed", None),
    ("scale_missing", None),
    ("queries_and_keys_swapped", None),
    ("all_biases_dropped", None),
]
SEVEN = [*LARGE, ("activation_wrong", "gelu"), ("epsilon_wrong", 1e-6)]
NOT_HERE = {
    "positions_count_padding",
    "padding_attended",
    "mask_before_scale",
    "layers_sorted_as_text",
}
"""Nothing changes without padding, and with fewer than eleven layers."""

ROUNDING = {"cache_precision", "scores_precision", "rotary_half_precision", "epsilon_outside_root"}
"""Some of their values are less than twice the tolerance."""


@pytest.mark.parametrize("name", sorted(HYPOTHESES.keys() - NOT_HERE - ROUNDING))
def test_every_known_mistake_exceeds_the_tolerance(name):
    values = HYPOTHESES[name].values or (None,)
    right = logits(redrawn())
    gaps = [difference(wrong_logits(redrawn(), (name, value)), right) for value in values]
    assert max(gaps) > 2 * limit("float32", right)


@pytest.mark.parametrize("mistake", SEVEN)
def test_a_known_mistake_exceeds_the_tolerance(mistake):
    right = logits(redrawn())
    wrong = wrong_logits(redrawn(), mistake)
    assert difference(wrong, right) > 2 * limit("float32", right)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("mistake", LARGE)
def test_a_large_mistake_exceeds_the_tolerance_of_half_precision(mistake, dtype):
    right = logits(redrawn())
    wrong = wrong_logits(redrawn(), mistake)
    assert difference(wrong, right) > 2 * limit(dtype, right)


@pytest.mark.parametrize("mistake", SEVEN)
def test_at_the_usual_initialisation_a_mistake_is_small(mistake):
    assert difference(wrong_logits(initial(), mistake), logits(initial())) < LOOSE / 2


@pytest.mark.parametrize("mistake", [("activation_wrong", "gelu"), ("all_biases_dropped", None)])
def test_at_the_usual_initialisation_some_mistakes_pass_even_this_tolerance(mistake):
    right = logits(initial())
    assert_close(wrong_logits(initial(), mistake), right, "float32", "logits")


@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_the_weights_stays_within_the_tolerance(seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = redrawn()
    rounded = {
        name: w * (1 + generator.choice((-1, 1), w.shape) * 2.0**-24) for name, w in weights.items()
    }
    right = logits(weights)
    assert difference(logits(rounded), right) > 0
    assert_close(logits(rounded), right, "float32", "logits")


def test_computing_in_float32_stays_within_the_tolerance():
    right = logits(redrawn())
    single = forward(config(), redrawn(), input_ids=IDS, dtype=np.float32).logits
    assert single.dtype == np.float32
    assert_close(single, right, "float32", "logits")


# -- the heads and the arguments -------------------------------------------------------------------

CLASSES, ANSWERS = "sequence_classification", "question_answering"
LEFT = np.array([[1] * 17, [0] * 6 + [1] * 11])
RIGHT = LEFT[:, ::-1].copy()
LAST = np.array([16, 10])  # the last attended positions of RIGHT
FACTORS = np.array([[1.0, 0.0, 0.5, 1.0], [0.3, 1.0, 1.0, 0.0]])


def weights_of(head):
    """Return weights with a standard deviation of 0.3 for a head, around those of weights/tiny."""
    generator = np.random.Generator(np.random.PCG64(9))
    base = redrawn()
    table = parameter_table(config(), head)
    return {
        name: base[name] if name in base else 0.3 * generator.standard_normal(parameter.shape)
        for name, parameter in table.items()
    }


def outcome(head, field, **inputs):
    return forward(config(), weights_of(head), head=head, input_ids=IDS, **inputs)[field]


def wrong_pooling(position):
    """Classify another position than the last attended one."""

    def mistake():
        right = outcome(CLASSES, "logits", attention_mask=RIGHT)
        state = forward(
            config(), weights_of(CLASSES), head=CLASSES, input_ids=IDS, attention_mask=RIGHT
        ).hidden_states[-1]
        return right, state[np.arange(2), position] @ weights_of(CLASSES)["score.weight"].T

    return mistake


def mask_before_scaling():
    """Add a caller's mask to the scores before they are divided by the root of the head's width."""
    allowed = np.tril(np.ones((17, 17), bool))
    bias = np.random.Generator(np.random.PCG64(11)).standard_normal((2, 1, 17, 17))
    right = np.where(allowed, bias, -np.inf)
    scaled = right / np.sqrt(config().head_dim)
    return (
        outcome("causal_lm", "logits", attention_mask=right),
        outcome("causal_lm", "logits", attention_mask=scaled),
    )


def unshifted_labels():
    """Predict each token from itself."""
    return (
        outcome("causal_lm", "loss", labels=IDS),
        outcome("causal_lm", "loss", labels=np.roll(IDS, 1, axis=1)),
    )


def transposed(head, name, field):
    """Read a head's weight in the other order."""

    def mistake():
        weights = weights_of(head)
        wrong = {**weights, name: weights[name].T.reshape(weights[name].shape)}
        return tuple(
            forward(config(), w, head=head, input_ids=IDS)[field] for w in (weights, wrong)
        )

    return mistake


def ignored(**inputs):
    """Pay no attention to an argument."""

    def mistake():
        return outcome("causal_lm", "logits", **inputs), outcome("causal_lm", "logits")

    return mistake


def answers_shifted():
    """Count the answer's place from one."""
    start, end = np.array([3, 5]), np.array([7, 9])
    return (
        outcome(ANSWERS, "loss", start_positions=start, end_positions=end),
        outcome(ANSWERS, "loss", start_positions=start + 1, end_positions=end + 1),
    )


def answers_beyond_the_text_counted():
    """Clamp to the last position in place of leaving it out."""
    start, end = np.array([3, 40]), np.array([7, 40])
    return (
        outcome(ANSWERS, "loss", start_positions=start, end_positions=end),
        outcome(ANSWERS, "loss", start_positions=start.clip(0, 16), end_positions=end.clip(0, 16)),
    )


def one_of_two_losses():
    """Take the binary cross-entropy for the cross-entropy, by the dtype of the labels."""
    classes = np.array([1, 0])
    return (
        outcome(CLASSES, "loss", labels=classes),
        outcome(CLASSES, "loss", labels=np.eye(2)[classes]),
    )


FEATURES = {
    "pooling at the first position": wrong_pooling(0),
    "pooling at the very last position": wrong_pooling(16),
    "pooling one position early": wrong_pooling(LAST - 1),
    "mask before scaling": mask_before_scaling,
    "unshifted labels": unshifted_labels,
    "transposed language-model head": transposed("causal_lm", "lm_head.weight", "logits"),
    "transposed classification head": transposed(CLASSES, "score.weight", "logits"),
    "transposed answer head": transposed(ANSWERS, "qa_outputs.weight", "start_logits"),
    "head mask ignored": ignored(head_mask=FACTORS),
    "token types ignored": ignored(token_type_ids=IDS[:, ::-1]),
    "attention mask ignored": ignored(attention_mask=LEFT),
    "positions ignored": ignored(position_ids=np.arange(17)[None].repeat(2, axis=0) * 2),
    "answers shifted": answers_shifted,
    "answers beyond the text counted": answers_beyond_the_text_counted,
    "another loss": one_of_two_losses,
}


@pytest.mark.parametrize("mistake", FEATURES)
def test_a_known_mistake_with_an_argument_or_a_head_exceeds_the_tolerance(mistake):
    right, wrong = FEATURES[mistake]()
    assert difference(wrong, right) > 2 * limit("float32", right)
