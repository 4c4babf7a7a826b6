"""Loading a model that another program replaces meanwhile: old or new, and never some of both."""

import numpy as np
import pytest

from gptj.checkpoint.snapshot import ChangedWhileRead
from gptj.model import loading
from gptj.model.loading import load_model
from killed_saves import save_lora, save_model

pytestmark = pytest.mark.frameworks


def replacing(monkeypatch, action, times=1):
    """Run an action in the middle of the first loads."""
    match, calls = loading.match_parameters, []

    def matched(*given, **options):
        found = match(*given, **options)
        calls.append(given)
        if len(calls) <= times:
            action(len(calls))
        return found

    monkeypatch.setattr(loading, "match_parameters", matched)


@pytest.mark.parametrize("form", ["safetensors", "msgpack", "h5"])
def test_a_model_that_is_replaced_while_it_is_read_is_read_again(
    backend, form, tmp_path, monkeypatch
):
    save_model(tmp_path / "model", 1.0, form)
    replacing(monkeypatch, lambda _: save_model(tmp_path / "model", 2.0, form, n_layer=2))
    model = load_model(backend, None, tmp_path / "model")
    assert model.config.n_layer == 2
    assert model.generation_config.max_new_tokens == 2
    for tensor in backend.dump_params(model).values():
        assert set(np.unique(tensor.read())) == {2.0}


def test_a_model_that_is_replaced_all_the_time_is_refused(backend, tmp_path, monkeypatch):
    save_model(tmp_path / "model", 1.0)
    replacing(monkeypatch, lambda n: save_model(tmp_path / "model", float(1 + n % 2)), times=99)
    with pytest.raises(ChangedWhileRead, match="was replaced while it was read"):
        load_model(backend, None, tmp_path / "model")


def test_an_adapter_that_is_replaced_while_it_is_read_is_read_again(backend, tmp_path, monkeypatch):
    save_model(tmp_path / "base", 1.0)
    save_lora(tmp_path / "adapter", 1.0, str(tmp_path / "base"))
    replacing(monkeypatch, lambda _: save_lora(tmp_path / "adapter", 2.0, str(tmp_path / "base")))
    if not backend.capabilities.adapters:
        pytest.skip("it has no adapters")
    model = load_model(backend, None, tmp_path / "adapter")
    assert model.lora.alpha == 2.0
    for tensor in backend.dump_adapter(model).values():
        assert set(np.unique(tensor.read())) == {2.0}
