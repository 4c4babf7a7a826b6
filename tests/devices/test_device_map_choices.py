"""Which `device_map` PyTorch chooses for the memory that is free, and what it refuses."""

import pytest

from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from models import tiny_config

torch = pytest.importorskip("torch")

from gptj.backends.torch import devices  # noqa: E402
from paths import TINY  # noqa: E402

pytestmark = pytest.mark.frameworks

GIB = 2**30


# ---- what is chosen, and what is refused


def choose(device_map, max_memory=None, dtype="bfloat16"):
    return devices.choose_devices(tiny_config(), "causal_lm", dtype, device_map, max_memory)


def invent(monkeypatch, **free):
    """Let the machine have these devices: GPUs as ``gpus=[bytes, ...]``, and the host's bytes."""
    gpus = free["gpus"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (gpus[index], 80 * GIB))
    monkeypatch.setattr(devices, "free_bytes", lambda: free["host"])


def test_a_plan_takes_the_gpus_before_the_cpu(monkeypatch):
    invent(monkeypatch, gpus=[10 * GIB, 10 * GIB], host=30 * GIB)
    assert devices.free_memory() == {"cuda:0": 9 * GIB, "cuda:1": 9 * GIB, "cpu": 30 * GIB}
    assert set(choose("auto").values()) == set(choose("sequential").values()) == {"cuda:0"}
    assert set(choose("balanced").values()) == {"cuda:0", "cuda:1"}


@pytest.mark.parametrize("device", ["cuda:1", 1, "gpu:1", torch.device("cuda", 1)], ids=str)
def test_one_device_is_that_of_every_module(monkeypatch, device):
    invent(monkeypatch, gpus=[10 * GIB, 10 * GIB], host=30 * GIB)
    assert choose(device) == choose({"": device})
    assert set(choose(device).values()) == {"cuda:1"}


def test_max_memory_names_devices_in_any_order_and_way(monkeypatch):
    invent(monkeypatch, gpus=[0, 0], host=0)
    offers = {"cpu": "1GiB", "cuda:1": 0, 0: "1GiB"}
    assert set(choose("auto", offers).values()) == {"cuda:0"}


def test_a_smaller_dtype_needs_less():
    offers = {"cpu": "120KB"}
    assert set(choose("auto", offers, "bfloat16").values()) == {"cpu"}
    with pytest.raises(ArgumentError, match="The model does not fit on the devices: it needs"):
        choose("auto", offers, "float32")


def test_six_billion_parameters_fill_two_gpus_and_the_host(monkeypatch):
    invent(monkeypatch, gpus=[6 * GIB, 6 * GIB], host=64 * GIB)
    places = devices.choose_devices(GPTJConfig(), "causal_lm", "bfloat16", "auto")
    blocks = [places[f"transformer.h.{layer}"] for layer in range(28)]
    assert blocks == sorted(blocks, key=["cuda:0", "cuda:1", "cpu"].index)
    assert {device: blocks.count(device) for device in set(blocks)} == {
        "cuda:0": 12,
        "cuda:1": 13,
        "cpu": 3,
    }


@pytest.mark.parametrize(
    ("device_map", "max_memory", "message"),
    [
        ("cuda", None, "PyTorch has no device 'cuda' here, which device_map names; it has 'cpu'"),
        (0, None, "PyTorch has no device 0 here, which device_map names; it has 'cpu'.* driver"),
        (
            torch.device("cuda:1"),
            None,
            r"PyTorch has no device device\(.*'cuda'.* device_map names",
        ),
        ("atuo", None, "device_map 'atuo' is neither a plan nor a device. Did you mean 'auto'"),
        ("balanced_low_0", None, "'balanced_low_0' is neither a plan.* 'cpu' here"),
        (-1, None, "device_map -1 is neither a plan nor a device. Accepted are 'auto', 'sequ"),
        (True, None, "device_map True is neither a plan nor a device"),
        ("cpu", {"cpu": 1}, "max_memory is for device_map='auto'; a device_map of your own"),
        ({"": "disk"}, None, "PyTorch has no device 'disk' here, which device_map names; it has"),
        ({"": None}, None, "device_map has None for a device; write 'cpu'"),
        ({"": 1.5}, None, "PyTorch has no device 1.5"),
        ({"": 7}, None, "PyTorch has no device 7 here, which device_map names; it has 'cpu'"),
        ({"": "cpu"}, {"cpu": 1}, "max_memory is for device_map='auto'; a device_map of your own"),
        ("auto", "10GiB", "max_memory '10GiB' is no mapping; accepted is device -> bytes"),
        ("auto", {"cpu": "much"}, r"max_memory\['cpu'\] 'much' is not a size; accepted are bytes"),
        ("auto", {3: "1GiB"}, "PyTorch has no device 3 here, which max_memory names; it has 'cpu'"),
    ],
    ids=str,
)
def test_what_no_plan_can_follow_is_refused(monkeypatch, device_map, max_memory, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ArgumentError, match=message):
        choose(device_map, max_memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu", "device_map": "auto"}, "device 'cpu' and device_map 'auto' exclude"),
        ({"max_memory": {"cpu": 1}}, "max_memory is for device_map='auto', which was not given"),
    ],
    ids=str,
)
def test_arguments_that_exclude_each_other_are_refused(torch_backend, options, message):
    with pytest.raises(ArgumentError, match=message):
        load_model(torch_backend, "causal_lm", TINY, **options)
