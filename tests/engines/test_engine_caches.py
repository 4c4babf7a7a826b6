"""The caches of engines where their keys, sequences and masks are not the usual ones."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine_cases import IDS, LEFT
from gptj.backends import get_backend, is_installed
from gptj.errors import UnsupportedFeature
from models import oracle, run, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

NAMES = [n for n in ("numpy", "onnxruntime", "openvino", "ctranslate2") if is_installed(n)]
WITH_KEYS = [name for name in NAMES if name != "ctranslate2"]


def cached(name, **changes):
    """Return the cache of the first six tokens."""
    model = tiny_model(name, **changes)
    given = {"input_ids": IDS[:, :6], "use_cache": True}
    return run(get_backend(name), model, **given).past_key_values


@pytest.mark.parametrize("name", NAMES)
def test_threads_go_on_from_one_cache(name):
    cache, model = cached(name), tiny_model(name)

    def logits(shift):
        ids = (IDS[:, 6:] + shift) % 90
        return run(get_backend(name), model, input_ids=ids, past_key_values=cache).logits

    shifts = list(range(6)) * 5
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(logits, shifts))
    for shift in range(6):
        ids = np.hstack((IDS[:, :6], (IDS[:, 6:] + shift) % 90))
        expected = oracle(input_ids=ids).logits[:, 6:]
        for values in found[shift::6]:
            assert_close(values, expected, "engine", "logits")


@pytest.mark.parametrize("name", WITH_KEYS)
@pytest.mark.parametrize(
    "change", [lambda cache: cache.gather([1]), lambda cache: cache.gather([1]).crop(4)]
)
def test_keys_and_values_outlive_the_cache_that_they_are_read_from(name, change):
    found = [change(cached(name, n_head=1))[layer] for layer in (0, 1)]
    held = [np.full(array.shape, 7, np.float32) for pair in found for array in pair * 50]
    for pair, true in zip(found, cached("numpy", n_head=1).filled(), strict=True):
        for array, whole in zip(pair, true, strict=True):
            assert_close(array, whole[1:2, :, : array.shape[2]], "engine", "keys and values")
    assert all((array == 7).all() for array in held)  # in the memory that was let go


@pytest.mark.skipif("ctranslate2" not in NAMES, reason="needs CTranslate2")
def test_a_mask_that_changes_what_a_text_cache_attends_to_is_refused():
    backend, model = get_backend("ctranslate2"), tiny_model("ctranslate2")
    given = {"input_ids": IDS[:, :8], "attention_mask": LEFT[:, :8], "use_cache": True}
    inputs = {
        "input_ids": IDS[:, 8:],
        "past_key_values": run(backend, model, **given).past_key_values,
    }
    for mask in (None, np.ones_like(IDS)):
        with pytest.raises(UnsupportedFeature, match="differs for the tokens of a cache"):
            run(backend, model, **inputs, attention_mask=mask)
    found = run(backend, model, **inputs, attention_mask=LEFT[:, 8:]).logits
    expected = oracle(input_ids=IDS, attention_mask=LEFT).logits[:, 8:]
    assert_close(found, expected, "engine", "logits")
