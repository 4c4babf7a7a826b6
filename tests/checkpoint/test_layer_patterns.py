"""Patterns of ranks as PEFT reads them: the first key that matches the end of a layer's name."""

import re
import time

import pytest

from gptj.checkpoint.layer_patterns import by_layer
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig, linear_shapes

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(vocab_size=96, n_embd=40, n_layer=12, n_head=4, rotary_dim=6)
LAYERS = list(linear_shapes(CONFIG, "causal_lm"))


def pefts(pattern, name, default):
    """Return what PEFT's rule gives a layer."""
    matching = (key for key in pattern if re.match(rf"(.*\.)?({key})$", name))
    return pattern.get(next(matching, None), default)


@pytest.mark.parametrize(
    "pattern",
    [
        {r"h\.(1|11)\.attn\.q_proj": 2},
        {r"h\.(1|11)\.attn\.q_proj": 2, "q_proj": 4},
        {"q_proj": 4, r"h\.(1|11)\.attn\.q_proj": 2},
        {r".*\.h\.[0-5]\.mlp\.fc_(in|out)": 3, r"h\.\d+\.attn\..*": 5},
        {r"^transformer\.h\.0\.attn\.k_proj$": 2},
        {r"^h\.0\.attn\.k_proj": 2},  # which no layer of a model with a head begins with
        {r"h.1.attn.q_proj": 2},
        {r"h\.\d{2}\.attn\.[qkv]_proj": 6},
        {r"(q|k)_proj": 2, r"[qkv]_proj": 3},
        {r"attn": 9},  # the end of no layer
        {},
    ],
    ids=str,
)
def test_every_layer_has_the_rank_that_peft_gives_it(pattern):
    found = by_layer(pattern, LAYERS, "base_model.model.")
    lora = LoraConfig(rank=8, rank_pattern=found)
    assert {n: lora.rank_of(n) for n in LAYERS} == {n: pefts(pattern, n, 8) for n in LAYERS}


@pytest.mark.parametrize(
    "key",
    [
        "(a+)+",
        "(a|aa)*b",
        "(.*)*",
        ".*.*.*.*x",
        "(?=a)b",
        "(?P<n>a)",
        r"(a)\1",
        "a{2}{3}{4}{5}",
        "[x]" * 100,
        "(" * 90,
        "[",
        "a**",
    ],
)
def test_an_expression_that_may_take_for_ever_is_refused(key):
    with pytest.raises(ValueError, match=r"is not run|no regular expression"):
        by_layer({key: 2}, LAYERS, "")


def test_what_is_run_ends_soon():
    start = time.perf_counter()
    by_layer({r".*.*.*\.nothing": 2}, LAYERS, "")
    assert time.perf_counter() - start < 1
    with pytest.raises(ValueError, match="more than 64 expressions"):
        by_layer(
            {f"[{index}]": 2 for index in range(10)} | {f"x|{i}": 2 for i in range(99)}, LAYERS, ""
        )


@pytest.mark.parametrize("pattern", [[3], "q_proj", 3])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="stands where a pattern should"):
        by_layer(pattern, LAYERS, "")
