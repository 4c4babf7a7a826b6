"""The oracle against another system's numbers, and against itself."""

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest

from golden_cases import golden_cases, golden_generations
from gptj.checkpoint.folder import open_checkpoint
from gptj.model.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.reference import causal_lm_loss, forward
from gptj.spec.tensors import LazyTensor
from tolerances import assert_close, difference

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(
    vocab_size=96, n_positions=64, n_embd=40, n_layer=2, n_head=4, rotary_dim=6, n_inner=112
)
EXACT = 1e-12  # the same float64 operations in another order


def draw(config, head="causal_lm"):
    generator = np.random.Generator(np.random.PCG64(3))
    return {
        name: 0.3 * generator.standard_normal(parameter.shape) + (parameter.kind == "norm_weight")
        for name, parameter in parameter_table(config, head).items()
    }


WEIGHTS = draw(CONFIG)
IDS = np.random.Generator(np.random.PCG64(4)).integers(0, 96, (3, 11))


def run(**inputs):
    return forward(CONFIG, WEIGHTS, **inputs)


@pytest.mark.parametrize("case", golden_cases(), ids=str)
def test_every_result_equals_that_of_another_system(case):
    checkpoint = open_checkpoint(case.folder)
    config = GPTJConfig.from_dict(checkpoint.config())
    output = forward(config, checkpoint.tensors, head=case.head, **case.arrays)
    for name, expected in case.expected.items():
        assert_close(case.select(output, name), expected, "golden", name)


GREEDY = golden_generations(("max_new_tokens", "pad_token_id"))


@pytest.mark.parametrize("generation", GREEDY, ids=str)
def test_the_likeliest_tokens_equal_those_of_another_system(generation):
    checkpoint = open_checkpoint(generation.folder)
    config = GPTJConfig.from_dict(checkpoint.config())
    ids, mask = generation.inputs["input_ids"], generation.inputs["attention_mask"]
    ended = np.zeros(len(ids), bool)
    for _ in range(generation.options["max_new_tokens"]):
        output = forward(config, checkpoint.tensors, input_ids=ids, attention_mask=mask)
        best = output.logits[:, -1].argmax(axis=-1)
        best[ended] = generation.options["pad_token_id"]
        ended |= best == config.eos_token_id
        ids = np.concatenate((ids, best[:, None]), axis=1)
        mask = np.concatenate((mask, np.ones_like(best)[:, None]), axis=1)
    np.testing.assert_array_equal(ids, generation.expected)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("padding", [0, 4])
def test_a_cached_forward_equals_the_whole(chunk, padding):
    mask = np.ones_like(IDS)
    mask[1, :padding] = 0
    whole = run(input_ids=IDS, attention_mask=mask).logits
    past, parts = None, []
    for start in range(0, IDS.shape[1], chunk):
        ids = IDS[:, start : start + chunk]
        total = start + ids.shape[1]
        output = run(input_ids=ids, attention_mask=mask[:, :total], past_key_values=past)
        past = output.past_key_values
        parts.append(output.logits)
    kept = mask != 0
    assert difference(np.concatenate(parts, axis=1)[kept], whole[kept]) < EXACT


def test_the_cache_holds_every_key_and_value():
    cache = run(input_ids=IDS).past_key_values
    assert [part.shape for layer in cache for part in layer] == [(3, 4, 11, 10)] * 4


def test_a_mask_as_wide_as_the_whole_cache_is_cut_to_what_is_filled():
    wide = np.concatenate((np.ones_like(IDS), np.zeros((3, 20), int)), axis=1)
    assert (
        difference(run(input_ids=IDS, attention_mask=wide).logits, run(input_ids=IDS).logits) == 0
    )


def test_an_additive_mask_means_the_same_as_the_mask_it_was_made_from():
    mask = np.ones_like(IDS)
    mask[0, 7:] = 0
    allowed = np.tril(np.ones((11, 11), bool)) & (mask[:, None, None, :] != 0)
    additive = np.where(allowed, 0.0, -np.inf)
    found = run(input_ids=IDS, attention_mask=additive).logits
    assert difference(found, run(input_ids=IDS, attention_mask=mask).logits) < EXACT


def test_a_finite_additive_mask_moves_the_probabilities():
    bias = np.where(np.tril(np.ones((11, 11), bool)), 0.0, -np.inf)[None, None].repeat(3, axis=0)
    bias[:, :, 5, 2] = np.log(2.0)  # twice the weight before normalisation
    probs = run(input_ids=IDS, attention_mask=bias).attentions[0][:, :, 5]
    plain = run(input_ids=IDS).attentions[0][:, :, 5]
    ratio = (probs[..., 2] / probs[..., 0]) / (plain[..., 2] / plain[..., 0])
    assert difference(ratio, np.full((3, 4), 2.0)) < EXACT


def test_a_row_that_attends_to_nothing_is_finite():
    mask = np.ones_like(IDS)
    mask[1] = 0
    output = run(input_ids=IDS, attention_mask=mask)
    assert np.isfinite(output.logits).all()


def test_a_row_of_an_additive_mask_that_attends_to_nothing_is_finite():
    mask = np.where(np.tril(np.ones((1, 1, 11, 11))) > 0, 0.0, -np.inf)
    mask[0, 0, 4] = -np.inf
    assert np.isfinite(run(input_ids=IDS, attention_mask=mask).logits).all()


def test_a_masked_key_has_weight_exactly_zero():
    mask = np.ones_like(IDS)
    mask[1, :3] = 0
    probs = run(input_ids=IDS, attention_mask=mask).attentions
    assert all((layer[1, :, 3:, :3] == 0.0).all() for layer in probs)


def test_probabilities_of_a_row_add_up_to_one():
    for layer in run(input_ids=IDS).attentions:
        assert difference(layer.sum(axis=-1), np.ones((3, 4, 11))) < EXACT


def test_later_tokens_do_not_reach_earlier_ones():
    changed = IDS.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 96
    found, expected = run(input_ids=changed).logits, run(input_ids=IDS).logits
    assert difference(found[:, :6], expected[:, :6]) == 0


def test_a_head_mask_of_zeros_leaves_the_mlp_alone():
    masked = run(input_ids=IDS, head_mask=np.zeros(4)).logits
    without = {n: w * (".attn.out_proj." not in n) for n, w in WEIGHTS.items()}
    assert difference(masked, forward(CONFIG, without, input_ids=IDS).logits) < EXACT


def test_the_base_model_reads_names_without_prefix():
    bare = {name.removeprefix("transformer."): value for name, value in WEIGHTS.items()}
    base = forward(CONFIG, bare, head="base", input_ids=IDS)
    assert difference(base.last_hidden_state, run(input_ids=IDS).hidden_states[-1]) == 0


def test_the_last_hidden_state_is_the_one_that_the_head_reads():
    output = run(input_ids=IDS)
    logits = output.hidden_states[-1] @ WEIGHTS["lm_head.weight"].T + WEIGHTS["lm_head.bias"]
    assert difference(logits, output.logits) < EXACT


def test_the_loss_ignores_what_it_is_told_to():
    labels = np.where(np.arange(11) % 2, IDS, -100)
    logits = run(input_ids=IDS).logits
    chosen = logits[:, :-1] - np.log(np.exp(logits[:, :-1]).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(chosen, IDS[:, 1:, None], axis=-1)[..., 0]
    expected = -picked[:, labels[0, 1:] != -100].mean()
    assert difference(run(input_ids=IDS, labels=labels).loss, expected) < EXACT


def test_the_loss_of_nothing_is_zero():
    assert causal_lm_loss(run(input_ids=IDS).logits, np.full_like(IDS, -100)) == 0.0


class Counting(Mapping):
    """Weights that note every read, in order."""

    def __init__(self, arrays):
        self.arrays, self.reads = arrays, []

    def __getitem__(self, name):
        array = self.arrays[name]

        def load():
            self.reads.append(name)
            return array.copy()

        return LazyTensor(array.shape, array.dtype, load)

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)


def test_lazy_weights_are_read_once_each_in_the_order_of_the_layers():
    weights = Counting(WEIGHTS)
    found = forward(CONFIG, weights, input_ids=IDS).logits
    layers = [name.split(".")[2] for name in weights.reads if ".h." in name]
    assert sorted(weights.reads) == sorted(WEIGHTS)
    assert layers == sorted(layers)
    assert difference(found, run(input_ids=IDS).logits) == 0


def peak_memory(n_layer):
    """Return the bytes that one token through `n_layer` wide blocks needs at most."""
    config = GPTJConfig(
        vocab_size=16, n_positions=8, n_embd=128, n_layer=n_layer, n_head=4, rotary_dim=8
    )
    weights = Counting({n: w.astype(np.float32) for n, w in draw(config).items()})
    tracemalloc.start()
    try:
        forward(config, weights, input_ids=np.zeros((1, 1), int))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_more_than_one_block_of_lazy_weights_is_alive():
    block = 12 * 128 * 128 * 8  # float64 bytes of one block
    peaks = {n_layer: peak_memory(n_layer) for n_layer in (1, 6)}
    assert peaks[6] < block
    assert peaks[6] - peaks[1] < block / 20
