"""Which device each module goes to, with invented sizes and budgets: no framework is needed."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.model.placement import (
    balance,
    follow_keys,
    module_of,
    place,
    unit_sizes,
    units,
)
from gptj.spec.byte_sizes import parse_size, readable_size
from gptj.spec.heads import HEADS
from gptj.spec.params import count_parameters, parameter_table
from paths import TINY

pytestmark = pytest.mark.frameworks

CONFIG = GPTJConfig(
    vocab_size=32, n_positions=16, n_embd=8, n_layer=3, n_head=2, rotary_dim=4, num_labels=2
)
TIED = GPTJConfig.from_dict(CONFIG.to_dict(), tie_word_embeddings=True)
SIZES = {"wte": 5, "h.0": 10, "h.1": 10, "h.2": 10, "ln_f": 6}  # 41 in all, the largest is 10


def follow(device_map, config=CONFIG, head="causal_lm"):
    return follow_keys(device_map, config, head)


def test_what_fits_on_the_first_device_goes_there():
    assert set(place(SIZES, {"cuda:0": 51, "cpu": 100}).values()) == {"cuda:0"}


def test_devices_are_filled_in_order_and_the_cpu_takes_the_rest():
    placed = place(SIZES, {"cuda:0": 26, "cuda:1": 20, "cpu": 100})
    assert list(placed.values()) == ["cuda:0", "cuda:0", "cuda:1", "cpu", "cpu"]


def test_a_device_too_small_for_one_part_and_its_work_is_left_out():
    placed = place(SIZES, {"cuda:0": 14, "cuda:1": 100})
    assert set(placed.values()) == {"cuda:1"}


def test_a_later_part_never_goes_to_an_earlier_device():
    generator = np.random.Generator(np.random.PCG64(3))
    devices = ["cuda:0", "cuda:1", "cuda:2", "cpu"]
    for _ in range(200):
        sizes = {f"h.{n}": int(size) for n, size in enumerate(generator.integers(1, 20, 8))}
        budgets = {device: int(generator.integers(0, 90)) for device in devices[:3]} | {"cpu": 999}
        placed = [devices.index(device) for device in place(sizes, budgets).values()]
        assert placed == sorted(placed)


def test_every_device_keeps_room_for_one_more_part():
    generator = np.random.Generator(np.random.PCG64(4))
    for _ in range(200):
        sizes = {f"h.{n}": int(size) for n, size in enumerate(generator.integers(1, 20, 8))}
        budgets = {"cuda:0": int(generator.integers(0, 90)), "cpu": 999}
        placed = place(sizes, budgets)
        used = sum(sizes[name] for name, device in placed.items() if device == "cuda:0")
        assert used == 0 or used + max(sizes.values()) <= budgets["cuda:0"]


def test_what_does_not_fit_is_refused_with_needs_and_offers():
    with pytest.raises(ArgumentError) as caught:
        place(SIZES, {"cuda:0": 26, "cpu": 20})
    assert str(caught.value) == (
        "The model does not fit on the devices: it needs 41 B, and on every device that it uses "
        "10 B more for its work. Offered are cuda:0 26 B, cpu 20 B, which leaves 2 of 5 parts "
        "without a place. Offer more in max_memory, or load in a smaller dtype."
    )


def test_without_any_device_the_message_says_none():
    with pytest.raises(ArgumentError, match="Offered are none, which leaves 5 of 5 parts"):
        place(SIZES, {})


def test_a_balanced_plan_gives_every_gpu_its_share():
    budgets = {"cuda:0": 100, "cuda:1": 100, "cpu": 100}
    placed = place(SIZES, balance(SIZES, budgets))
    assert list(placed.values()) == ["cuda:0"] * 3 + ["cuda:1"] * 2


def test_a_balanced_plan_heeds_what_each_gpu_offers():
    placed = place(SIZES, balance(SIZES, {"cuda:0": 16, "cuda:1": 100, "cpu": 100}))
    assert list(placed.values()) == ["cuda:0"] + ["cuda:1"] * 4


def test_a_model_too_large_for_the_gpus_is_not_balanced():
    budgets = {"cuda:0": 26, "cuda:1": 26, "cpu": 100}
    assert balance(SIZES, budgets) == budgets


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_the_units_hold_every_parameter_once(config, head):
    sizes = unit_sizes(config, head, itemsize=2)
    assert sum(sizes.values()) == 2 * count_parameters(config, head)


@pytest.mark.parametrize("head", HEADS)
def test_blocks_are_whole_and_the_head_is_with_the_final_norm(head):
    prefix = HEADS[head].prefix
    blocks = [f"{prefix}{name}" for name in ("wte", "h.0", "h.1", "h.2", "ln_f")]
    assert list(unit_sizes(CONFIG, head, 1)) == blocks
    assert [units(CONFIG, head)[own] for own in HEADS[head].modules] in ([], blocks[-1:])


def test_a_tied_head_is_with_the_word_table():
    assert units(TIED, "causal_lm")["lm_head"] == "transformer.wte"


def test_every_parameter_belongs_to_a_module_that_is_placed():
    modules = units(CONFIG, "causal_lm")
    names = parameter_table(CONFIG, "causal_lm")
    assert {module_of(name, modules) for name in names} == set(modules)
    assert module_of("transformer.h.1.attn.q_proj.weight", modules) == "transformer.h.1"


def test_the_longest_key_wins():
    placed = follow({"": "cpu", "transformer.h": "cuda:0", "transformer.h.1": "cuda:1"})
    assert placed == {
        "transformer.wte": "cpu",
        "transformer.h.0": "cuda:0",
        "transformer.h.1": "cuda:1",
        "transformer.h.2": "cuda:0",
        "transformer.ln_f": "cpu",
        "lm_head": "cpu",
    }


def test_a_key_is_no_prefix_of_a_longer_number():
    config = GPTJConfig.from_dict(CONFIG.to_dict(), n_layer=12)
    placed = follow({"": "cpu", "transformer.h.1": "cuda:1"}, config)
    assert [name for name, device in placed.items() if device == "cuda:1"] == ["transformer.h.1"]


def test_keys_of_modules_without_weights_are_accepted():
    assert set(follow({"transformer.drop": "cuda:0", "": "cpu"}).values()) == {"cpu"}
    assert set(follow({"drop": "cuda:0", "": "cpu"}, head="base").values()) == {"cpu"}


@pytest.mark.parametrize("rest", ["transformer", ""])
def test_a_tied_head_without_a_key_of_its_own_follows_its_word_table(rest):
    placed = follow({"transformer.wte": "cuda:1", rest: "cpu"}, TIED)
    assert placed["lm_head"] == "cuda:1"


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ({"transformer": "cpu"}, "has no device for 'lm_head': add their names"),
        ({"transformer.h.0": "cpu", "lm_head": "cpu"}, "for 'transformer.wte', 'transformer.h.1'"),
        ({"": "cpu", "transformer.h.9": "cpu"}, "'transformer.h.9', which the model does not have"),
        ({"": "cpu", "lm_haed": "cpu"}, "Did you mean 'lm_head'"),
        ({"": "cpu", 3: "cpu"}, "names 3, which the model does not have"),
        ({"": "cpu", "transformer.h.0.mlp": "cpu"}, "a part of 'transformer.h.0', which is placed"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_are_refused_by_name(device_map, message):
    with pytest.raises(ArgumentError, match=message):
        follow(device_map)


def test_a_tied_head_far_from_its_word_table_is_refused():
    with pytest.raises(ArgumentError, match="they are one table: give both the same device"):
        follow({"": "cpu", "lm_head": "cuda:0"}, TIED)


@pytest.mark.parametrize(
    ("size", "count"),
    [(5000, 5000), ("500MB", 5 * 10**8), ("1.5 GiB", 3 * 2**29), ("2tb", 2 * 10**12), ("0", 0)],
)
def test_sizes_are_bytes_or_text(size, count):
    assert parse_size(size, "limit", least=0) == count


@pytest.mark.parametrize("size", [0, -1, "5 XB", "many", None, "0GB"])
def test_what_is_no_size_is_refused_with_the_arguments_name(size):
    with pytest.raises(ArgumentError, match=f"limit {size!r} is not a size; accepted are bytes"):
        parse_size(size, "limit")


def test_sizes_are_shown_in_the_unit_that_people_read():
    assert [readable_size(n) for n in (7, 3 * 2**9, 2**20, 3 * 2**29)] == [
        "7 B",
        "1.5 KiB",
        "1.0 MiB",
        "1.5 GiB",
    ]


@pytest.mark.parametrize("name", ["tf_backend", "flax_backend"])
@pytest.mark.parametrize("option", ["device_map", "max_memory"])
def test_only_pytorch_places_modules(request, name, option):
    backend = request.getfixturevalue(name)
    with pytest.raises(ArgumentError, match=f"Loading has no argument '{option}'"):
        load_model(backend, "causal_lm", TINY, **{option: "auto"})
