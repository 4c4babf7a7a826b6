"""Every name of a device, in every backend: taken where it exists, else refused in one line."""

import pytest
from click.testing import CliRunner

from gptj.cli import main
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.model.device_names import DeviceName, no_device, read_name
from gptj.model.loading import load_model
from paths import TINY

pytestmark = pytest.mark.frameworks

HERE = ("cpu", "CPU:0", "/cpu:0", "/device:CPU:0", "/job:localhost/replica:0/task:0/device:CPU:0")
ABSENT = (
    *("cuda", "cuda:9", "gpu:0", "/GPU:0", "rocm", "mps", "xpu", "tpu", "npu:1", "cpu:3", "cpuu"),
    *("", "cuda:x", "cpu:-1", "cpu ", 0, -1, 3.5, True, b"cpu"),
)
MISTYPED = {"cpuu": "cpu", "cudda": "cuda", "gpuu:1": "gpu"}


def has_gpu(framework):
    return framework.devices()[0] != "cpu"


@pytest.mark.parametrize("name", HERE)
def test_a_device_that_exists_is_taken(framework, name):
    load_model(framework, "causal_lm", TINY, device=name)


@pytest.mark.parametrize("name", ABSENT, ids=repr)
def test_a_device_that_is_not_there_is_named_with_those_that_are(framework, name):
    if has_gpu(framework):
        pytest.skip("this machine has more devices")
    with pytest.raises(ArgumentError) as raised:
        load_model(framework, "causal_lm", TINY, device=name)
    message = str(raised.value)
    assert f"has no device {name!r} here; it has 'cpu'" in message
    assert "\n" not in message
    if name in ("cuda", "cuda:9", "gpu:0", "/GPU:0", "rocm", 0):
        assert "A GPU needs its driver and " in message


@pytest.mark.parametrize("name", MISTYPED)
def test_a_mistyped_device_suggests_one(framework, name):
    with pytest.raises(ArgumentError, match=f"Did you mean '{MISTYPED[name]}'"):
        load_model(framework, "causal_lm", TINY, device=name)


def test_where_there_are_fewer_of_a_kind_no_package_is_missing():
    message = str(no_device("cuda:9", "PyTorch", ["cuda:0", "cpu"], {"gpu": "Install it."}))
    assert message == "PyTorch has no device 'cuda:9' here; it has 'cuda:0', 'cpu'."


@pytest.mark.parametrize(
    ("name", "parts"),
    [("cuda:1", ("cuda", 1)), ("/GPU:0", ("gpu", 0)), (2, ("gpu", 2)), ("TPU", ("tpu", None))],
)
def test_names_are_taken_apart(name, parts):
    assert read_name(name) == DeviceName(*parts)


@pytest.mark.parametrize("option", ["device_map", "max_memory", "sharding"])
def test_an_option_of_another_backend_says_whose_it_is(framework, option):
    if option in framework.build_options:
        pytest.skip("it is this backend's own")
    with pytest.raises(ArgumentError, match=rf"{option!r} is an option of the backend '\w+'\. One"):
        load_model(framework, "causal_lm", TINY, **{option: "auto"})


def test_a_model_without_values_says_so(torch_backend, tmp_path):
    model = load_model(torch_backend, "causal_lm", TINY, device="meta")
    for call in (
        lambda: model.generate([[1, 2]], max_new_tokens=1),
        lambda: model.generate_text("a", max_new_tokens=1),
        lambda: model.score([1, 2]),
        lambda: model.save_pretrained(tmp_path),
        lambda: model.trace([[1, 2]], ["transformer.h.0"]),
    ):
        with pytest.raises(UnsupportedFeature, match=r"on the device 'meta'.* load it on another"):
            call()
    assert model([[1, 2]]).logits.shape == (1, 2, 96)


@pytest.mark.parametrize("name", ["cuda:9", "cpuu", "meta"])
def test_the_command_line_says_it_in_one_line(framework, name):
    asked = ["generate", "a", "-m", str(TINY), "-b", framework.name, "--device", name, "-n", "1"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code in (1, 2)  # 2: an argument was wrong
    assert result.stderr.startswith("gptj: ")
    assert result.stderr.count("\n") == 1
