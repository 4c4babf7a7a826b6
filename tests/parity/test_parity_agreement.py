"""Two frameworks at a time: the same numbers, the same files, the same text."""

from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from agreement import assert_same_tokens
from gptj.backends import get_backend
from gptj.cli import main
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from gptj.spec.heads import HEADS
from installed import FRAMEWORKS
from models import (
    ALL_FIELDS,
    DEMO,
    checkpoint_weights,
    draw_ids,
    load,
    run,
    tiny_model,
)
from tolerances import assert_close

PAIRS = list(combinations(FRAMEWORKS, 2))
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not PAIRS, reason="fewer than two frameworks are installed"),
]
every_pair = pytest.mark.parametrize("pair", PAIRS or [()], ids="-".join)

IDS = draw_ids((3, 8), seed=41)
LEFT = np.array([[1] * 8, [0] * 2 + [1] * 6, [0] * 7 + [1]])
TARGETS = {
    "causal_lm": {"labels": np.where(LEFT, IDS, -100)},
    "sequence_classification": {"labels": np.array([1, 0, 1])},
    "question_answering": {
        "start_positions": np.array([1, 2, 8]),
        "end_positions": np.array([4, 2, 9]),
    },
}
PROMPTS = ["def fibonacci(n):", "import os\n", "class Stack:\n    def push(self"]


@every_pair
@pytest.mark.parametrize("head", HEADS)
def test_every_field_of_two_frameworks_is_equal(pair, head):
    inputs = {"input_ids": IDS, "attention_mask": LEFT, **ALL_FIELDS}
    first, second = (run(get_backend(n), tiny_model(n, head), **inputs) for n in pair)
    assert list(first) == list(second)
    for name in {"last_hidden_state", "logits", "start_logits", "end_logits"} & first.keys():
        rows = ... if head == "sequence_classification" else LEFT != 0
        assert_close(first[name][rows], second[name][rows], "float32", name)
    for found, other in zip(first.hidden_states, second.hidden_states, strict=True):
        assert_close(found[LEFT != 0], other[LEFT != 0], "float32", "hidden states")


@every_pair
@pytest.mark.parametrize("head", TARGETS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_losses_and_gradients_of_two_frameworks_are_equal(pair, head, tied):
    inputs = {"input_ids": IDS, "attention_mask": LEFT, **TARGETS[head]}
    found = []
    for backend in map(get_backend, pair):
        model = tiny_model(backend.name, head, tie_word_embeddings=tied)
        tensors = {name: backend.from_numpy(value, model) for name, value in inputs.items()}
        found.append(backend.gradients(model, **tensors))
    (first_loss, first), (second_loss, second) = found
    assert_close(first_loss, second_loss, "float32", "loss")
    for name in first:
        assert_close(first[name], second[name], "float32", name)


@every_pair
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_one_framework_saves_another_loads_bit_by_bit(pair, dtype, tmp_path):
    for writer, reader in (pair, pair[::-1]):
        model = tiny_model(writer, dtype=dtype)
        model.save_pretrained(tmp_path)
        written = get_backend(writer).dump_params(model)
        loaded = get_backend(reader).dump_params(gptj.load(tmp_path, backend=reader))
        for name, tensor in written.items():
            assert loaded[name].read().tobytes() == tensor.read().tobytes(), name


@pytest.fixture(scope="module")
def prompts():
    """The prompts as padded ids and their mask."""
    batch = gptj.load_tokenizer("demo")(
        PROMPTS, padding=True, padding_side="left", return_tensors="np"
    )
    return batch["input_ids"], batch["attention_mask"]


@every_pair
@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True, "seed": 7}, {"do_sample": True, "seed": 8, "top_k": 0}],
    ids=["greedy", "top k", "whole vocabulary"],
)
def test_two_frameworks_write_the_same_tokens_with_the_demo_model(pair, options, prompts):
    ids, mask = prompts
    options = {"max_new_tokens": 30, **options}
    config, weights = checkpoint_weights(DEMO)
    first, second = (
        get_backend(n).to_numpy(load(n, DEMO).generate(ids, mask, **options)) for n in pair
    )
    plan = make_plan(GenerationConfig.from_model(config).updated(**options), ids.shape[1], config)
    new = slice(ids.shape[1], None)
    assert_same_tokens(first[:, new], second[:, new], plan, config, weights, ids, mask)


@pytest.mark.parametrize("options", [[], ["--seed", "7"]], ids=["greedy", "seeded"])
def test_the_command_line_writes_one_text_with_every_backend(options):
    texts = set()
    for name in FRAMEWORKS:
        command = ["generate", PROMPTS[0], "--backend", name, "--max-new-tokens", "24", *options]
        texts.add(CliRunner().invoke(main, command).stdout)
    assert len(texts) == 1
    assert texts.pop().startswith(PROMPTS[0])
