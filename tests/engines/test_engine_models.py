"""Models of engines that are copied, whose configuration changes, and whose calls are cut off."""

import copy
import pickle
import re

import numpy as np
import pytest

from engine_cases import IDS
from gptj.backends import get_backend, is_installed
from gptj.errors import ConfigError
from models import oracle, run, tiny_model
from spawned import first_output, in_another_process
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

ENGINES = [n for n in ("onnxruntime", "openvino", "ctranslate2") if is_installed(n)]
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ["numpy", *ENGINES])
def test_a_copied_model_computes_the_same_and_is_another(name, how):
    model = tiny_model(name)
    copied = COPIES[how](model)
    assert np.array_equal(first_output(copied), first_output(model))
    assert copied.config == model.config and copied.config is not model.config
    found, own = copied.whole_params(), model.whole_params()
    assert all(np.array_equal(found[key].read(), own[key].read()) for key in own)


@pytest.mark.parametrize("name", ["numpy", *ENGINES])
def test_a_model_is_sent_to_another_process(name):
    model = tiny_model(name)
    assert np.array_equal(in_another_process(first_output, model), first_output(model))


CHANGES = {
    "n_layer": 1,
    "n_head": 2,
    "rotary_dim": 2,
    "activation_function": "relu",
    "layer_norm_epsilon": 0.1,
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_configuration_that_has_changed_is_refused(name, field, monkeypatch):
    backend, model = get_backend(name), tiny_model(name)
    before = getattr(model.config, field)
    with monkeypatch.context() as patch:
        patch.setattr(model.config, field, CHANGES[field])
        message = re.escape(f"config.{field} has become {CHANGES[field]!r}; the backend {name!r}")
        for call in (lambda: run(backend, model, input_ids=IDS), lambda: model.generate(IDS)):
            with pytest.raises(ConfigError, match=message) as raised:
                call()
            assert repr(before) in str(raised.value)
    assert_close(
        run(backend, model, input_ids=IDS).logits, oracle(input_ids=IDS).logits, "engine", "logits"
    )


class CutOff:
    """An infer request during whose next call Ctrl-C comes, before it runs or after."""

    def __init__(self, request, has_run):
        self.request, self.has_run = request, has_run

    def infer(self, *args, **options):
        if self.has_run:
            self.request.infer(*args, **options)
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.request, name)


@pytest.mark.skipif("openvino" not in ENGINES, reason="needs OpenVINO")
@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]], ids=str)
@pytest.mark.parametrize("has_run", [False, True])
def test_a_cache_goes_on_rightly_after_a_call_that_was_cut_off(has_run, rows):
    backend, model = get_backend("openvino"), tiny_model("openvino")
    given = {"input_ids": IDS[:, :6], "use_cache": True}
    whole = run(backend, model, **given).past_key_values
    cache = whole.gather(rows)
    request = cache.session.request
    cache.session.request = CutOff(request, has_run)
    inputs = {"input_ids": IDS[rows, 6:], "past_key_values": cache}
    with pytest.raises(KeyboardInterrupt):
        run(backend, model, **inputs)
    if whole.session is not None:
        whole.session.request = request
    cache.session.request = request
    for _ in range(2):
        found = run(backend, model, **inputs).logits
        assert_close(found, oracle(input_ids=IDS[rows]).logits[:, 6:], "engine", "logits")
    inputs = {"input_ids": IDS[:, 6:], "past_key_values": whole}
    found = run(backend, model, **inputs).logits
    assert_close(found, oracle(input_ids=IDS).logits[:, 6:], "engine", "logits")
