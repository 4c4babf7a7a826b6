"""From a file's names to a head's parameters: prefixes, old buffers, other heads, complaints."""

import logging

import numpy as np
import pytest

from gptj.checkpoint.parameter_matching import match_parameters
from gptj.errors import ArgumentError, CheckpointError
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(
    vocab_size=96, n_positions=16, n_embd=40, n_layer=2, n_head=4, rotary_dim=6, n_inner=112
)


def checkpoint(head="causal_lm", config=CONFIG):
    table = parameter_table(config, head)
    return {name: LazyTensor.of(initial_value(p, config, 5)) for name, p in table.items()}


def empty(*shape):
    return LazyTensor.of(np.zeros(shape, np.float32))


def match(tensors, head="causal_lm", config=CONFIG):
    return match_parameters(config, head, tensors, "the folder")


@pytest.mark.parametrize("head", HEADS)
def test_a_head_finds_its_own_tensors(head):
    tensors = checkpoint(head)
    assert match(tensors, head) == tensors


@pytest.mark.parametrize("head", HEADS)
def test_parameters_come_in_the_order_of_the_table(head):
    shuffled = dict(sorted(checkpoint(head).items(), reverse=True))
    assert list(match(shuffled, head)) == list(parameter_table(CONFIG, head))


def test_a_base_model_reads_a_checkpoint_with_a_head():
    found, tensors = match(checkpoint(), "base"), checkpoint("base")
    assert found.keys() == tensors.keys()
    assert all((found[n].read() == tensors[n].read()).all() for n in tensors)


def test_a_head_reads_names_without_prefix():
    tensors = checkpoint()
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    assert match(bare) == tensors


def test_a_head_that_is_not_there_is_refused_where_none_is_to_be_drawn():
    tensors = checkpoint("causal_lm")
    assert match_parameters(CONFIG, "causal_lm", tensors, "it", draw_head=False) == tensors
    with pytest.raises(ArgumentError, match=r"has no question_answering head.*head='causal_lm'"):
        match_parameters(CONFIG, "question_answering", tensors, "it", draw_head=False)


def test_a_base_model_takes_names_with_prefix():
    tensors = checkpoint("base")
    assert match({f"transformer.{n}": t for n, t in tensors.items()}, "base") == tensors


@pytest.mark.parametrize("buffer", ["attn.bias", "attn.masked_bias"])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_the_buffers_of_old_checkpoints_are_dropped(prefix, buffer):
    tensors = checkpoint()
    old = {f"{prefix}h.{layer}.{buffer}": empty(1, 1, 16, 16) for layer in range(2)}
    assert match({**tensors, **old}) == tensors


def test_tensors_of_another_head_are_left_out():
    others = {"score.weight": empty(2, 40), "qa_outputs.weight": empty(2, 40)}
    tensors = checkpoint()
    assert match({**tensors, **others}) == tensors


def test_a_tied_model_leaves_out_a_copy_of_the_word_table():
    tied = GPTJConfig.from_dict(CONFIG.to_dict(), tie_word_embeddings=True)
    assert "lm_head.weight" not in match(checkpoint(), config=tied)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("causal_lm", "lm_head.weight, lm_head.bias"),
        ("sequence_classification", "score.weight"),
        ("question_answering", "qa_outputs.weight, qa_outputs.bias"),
    ],
)
def test_a_head_that_is_not_there_is_drawn_and_one_line_says_so(head, names, caplog):
    with caplog.at_level(logging.WARNING, "gptj"):
        found = match(checkpoint("base"), head)
    assert [record.getMessage() for record in caplog.records] == [
        f"the folder has no {head} head: drew new values for {names}."
    ]
    first = names.split(", ")[0]
    expected = initial_value(parameter_table(CONFIG, head)[first], CONFIG)
    np.testing.assert_array_equal(found[first].read(), expected)


def test_a_complete_checkpoint_is_loaded_in_silence(caplog):
    match(checkpoint())
    assert caplog.records == []


def test_half_a_head_is_not_drawn():
    tensors = checkpoint()
    del tensors["lm_head.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: lm_head\.bias"):
        match(tensors)


def test_every_difference_is_named_at_once():
    tensors = checkpoint()
    for name in ("h.0.attn.q_proj.weight", "h.1.mlp.fc_in.bias"):
        del tensors[f"transformer.{name}"]
    tensors |= {"one": empty(1), "transformer.h.7.ln_1.weight": empty(40)}
    tensors |= {"transformer.wte.weight": empty(95, 40), "transformer.ln_f.bias": empty(1, 40)}
    with pytest.raises(CheckpointError) as caught:
        match(tensors)
    message = str(caught.value)
    for part in (
        "the folder does not fit a GPT-J with the head 'causal_lm'",
        "2 missing: transformer.h.0.attn.q_proj.weight, transformer.h.1.mlp.fc_in.bias",
        "1 unexpected: transformer.h.7.ln_1.weight",
        "2 of another shape: transformer.ln_f.bias is (1, 40), needed is (40,)",
        "transformer.wte.weight is (95, 40), needed is (96, 40)",
    ):
        assert part in message


def test_one_tensor_under_two_names_is_refused():
    tensors = checkpoint() | {"wte.weight": empty(96, 40)}
    with pytest.raises(CheckpointError, match=r"both wte\.weight and transformer\.wte\.weight"):
        match(tensors)
