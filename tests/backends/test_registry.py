"""The registry of backends: names, aliases, entry points and what is said when one is missing."""

import importlib.util
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import gptj
from gptj import backends
from gptj.errors import ArgumentError, BackendUnavailable

pytestmark = pytest.mark.frameworks


def install(monkeypatch, *packages):
    """Pretend that exactly these packages are installed."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in packages else None
    )


def plug_in(monkeypatch, **objects):
    """Pretend that other distributions plug in backends, given as ``module:attribute``."""
    points = EntryPoints(
        EntryPoint(name.rstrip("_"), value, backends.ENTRY_POINTS)
        for name, value in objects.items()
    )
    monkeypatch.setattr(backends, "entry_points", lambda group: points.select(group=group))


@pytest.fixture(autouse=True)
def nothing_plugged_in(monkeypatch):
    plug_in(monkeypatch)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("torch", "torch"),
        ("pytorch", "torch"),
        ("pt", "torch"),
        ("tf", "tf"),
        ("tensorflow", "tf"),
        ("keras", "tf"),
        ("flax", "flax"),
        ("jax", "flax"),
    ],
)
def test_a_backend_has_a_name_and_aliases(name, backend):
    assert backends.resolve_name(name) == backend


@pytest.mark.parametrize(
    ("packages", "backend"),
    [
        (("torch", "tensorflow", "flax"), "torch"),
        (("tensorflow", "flax"), "tf"),
        (("flax",), "flax"),
        (("onnxruntime",), "numpy"),
        ((), "numpy"),
    ],
)
def test_the_default_is_the_first_that_is_installed(monkeypatch, packages, backend):
    install(monkeypatch, *packages)
    assert backends.resolve_name(None) == backend


def test_without_any_framework_numpy_is_there(monkeypatch):
    install(monkeypatch, "numpy")
    assert backends.get_backend().name == "numpy"


@pytest.mark.parametrize("name", ["torch", "tf", "flax", *backends.ENGINES])
def test_a_missing_framework_names_the_extra_that_installs_it(monkeypatch, name):
    install(monkeypatch)
    message = rf"The backend '{name}' needs \w+, .* pip install 'gptj-trio\[{name}\]'"
    with pytest.raises(BackendUnavailable, match=message) as caught:
        backends.get_backend(name)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("name", ["GPTJForCausalLM", "TFGPTJModel", "FlaxGPTJForCausalLM"])
def test_a_class_of_a_missing_framework_names_the_extra(monkeypatch, name):
    install(monkeypatch)
    with pytest.raises(BackendUnavailable, match="pip install 'gptj-trio"):
        getattr(gptj, name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("torhc", "torch"), ("Torch", "torch"), ("tensorfow", "tensorflow"), ("jaxx", "jax")],
)
def test_an_unknown_backend_suggests_the_nearest(name, nearest):
    with pytest.raises(ArgumentError, match=f"Unknown backend '{name}'. Did you mean '{nearest}'"):
        backends.get_backend(name)


@pytest.mark.parametrize("name", ["mxnet", 3, ""], ids=repr)
def test_an_unknown_backend_says_which_there_are(name):
    message = (
        f"Unknown backend {name!r}.* 'torch', 'tf', 'flax', 'numpy', .* and the aliases 'pytorch'"
    )
    with pytest.raises(ArgumentError, match=message):
        backends.get_backend(name)


def test_a_framework_that_is_installed_but_broken_shows_its_own_error(monkeypatch):
    install(monkeypatch, "torch")

    def fail(name):
        raise RuntimeError(f"{name}: libcudart.so.99 is missing")

    monkeypatch.setattr(backends.importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="libcudart"):
        backends.get_backend("torch")


def test_another_distribution_can_plug_in_a_backend(monkeypatch):
    plug_in(monkeypatch, mine="gptj.model.config:GPTJConfig")
    assert backends.get_backend("mine") is gptj.GPTJConfig


def test_a_backend_that_is_plugged_in_is_listed_and_suggested(monkeypatch):
    plug_in(monkeypatch, mine="gptj.model.config:GPTJConfig")
    assert backends.backend_names() == [*backends.BUILT_IN, "mine"]
    with pytest.raises(ArgumentError, match="Did you mean 'mine'"):
        backends.resolve_name("mina")


def test_a_built_in_backend_cannot_be_replaced(monkeypatch):
    install(monkeypatch)
    plug_in(monkeypatch, torch="gptj.spec.config:GPTJConfig")
    with pytest.raises(BackendUnavailable):
        backends.get_backend("torch")


def test_two_backends_of_one_name_are_refused(monkeypatch):
    plug_in(monkeypatch, mine="gptj.model.config:GPTJConfig", mine_="gptj.errors:GPTJError")
    with pytest.raises(ArgumentError, match="Several distributions plug in a backend 'mine'"):
        backends.get_backend("mine")
