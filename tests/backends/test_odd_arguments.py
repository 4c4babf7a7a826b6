"""Odd counts, positions and sequences: one answer from every backend, engines among them."""

import numpy as np
import pytest

from gptj.backends import get_backend, is_installed
from gptj.errors import ArgumentError, InputError
from installed import FRAMEWORKS, NUMPY
from models import draw_ids, oracle, run, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

ENGINES = [name for name in ("onnxruntime", "openvino", "ctranslate2") if is_installed(name)]
IDS = draw_ids((3, 11), seed=4)


@pytest.fixture(params=[*FRAMEWORKS, NUMPY, *ENGINES])
def each(request, tmp_path_factory, monkeypatch):
    """Every backend of a framework, NumPy's, and every engine that is installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "engines"))
    return get_backend(request.param)


def logits(each, keep, **inputs):
    inputs = {"input_ids": IDS, **inputs, "logits_to_keep": keep}
    return run(each, tiny_model(each.name), **inputs).logits


def cached(each, length=6):
    given = {"input_ids": IDS[:, :length], "use_cache": True}
    return run(each, tiny_model(each.name), **given).past_key_values


KEPT = {
    "all": (0, slice(None)),
    "nothing said": (None, slice(None)),
    "NumPy's number": (np.int32(2), slice(-2, None)),
    "more than there are": (50, slice(None)),
    "a list": ([3, 0], [3, 0]),
    "from the end": ([-1, 2], [10, 2]),
    "small numbers": (np.array([1, 1, 9], np.uint8), [1, 1, 9]),
}


@pytest.mark.parametrize("name", KEPT)
def test_logits_are_those_of_the_positions_asked_for(each, name):
    keep, positions = KEPT[name]
    expected = oracle(input_ids=IDS).logits[:, positions]
    assert_close(logits(each, keep), expected, "engine", "logits")


REFUSED = {
    "a position too far": [11],
    "before the first": [-12],
    "none": [],
    "no integers": np.array([0.0, 1.0]),
    "a mask": np.ones(11, bool),
    "several rows": np.zeros((3, 1), int),
    "half a position": 1.5,
    "a negative number": -1,
    "a boolean": np.bool_(True),
    "Python's boolean": True,
    "a slice": slice(0, 3),
    "a text": "1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_positions_are_refused_by_what_is_accepted(each, name):
    with pytest.raises(ArgumentError, match=r"logits_to_keep must be how many .*; found "):
        logits(each, REFUSED[name])


ROWS = {
    "a list": ([2, 0], [2, 0]),
    "from the end": ([-1, 0, 0, 1], [2, 0, 0, 1]),
    "a mask": ([True, False, True], [0, 2]),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_cache_goes_on_with_the_sequences_asked_for(each, name):
    given, rows = ROWS[name]
    inputs = {"input_ids": IDS[rows, 6:], "past_key_values": cached(each).gather(given)}
    found = run(each, tiny_model(each.name), **inputs).logits
    assert_close(found, oracle(input_ids=IDS[rows]).logits[:, 6:], "engine", "logits")


BAD_ROWS = {
    "one that is not there": [9],
    "before the first": [-4],
    "none": [],
    "a mask of others": [True, False],
    "an empty mask": [False] * 3,
    "no integers": [0.5],
    "a table": [[0, 1]],
    "a number": 1,
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_other_sequences_are_refused(each, name):
    with pytest.raises(ArgumentError, match=r"gather\(\) takes which of the 3 sequences .*; found"):
        cached(each).gather(BAD_ROWS[name])


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_copies_are_a_whole_number(each, count):
    with pytest.raises(ArgumentError, match=r"expand\(\) takes how many copies .*; found"):
        cached(each).expand(count)


@pytest.mark.parametrize("length", [-2, 1.5, True, "2", None])
def test_a_cache_is_cropped_to_a_whole_number(each, length):
    with pytest.raises(ArgumentError, match=r"crop\(\) takes how many of the first .*; found"):
        cached(each).crop(length)


@pytest.mark.parametrize("length", [0, 4, np.int64(4), 6, 99])
def test_a_cropped_cache_goes_on_from_there(each, length):
    kept = min(length, 6)
    inputs = {"input_ids": IDS[:, kept:], "past_key_values": cached(each).crop(length)}
    found = run(each, tiny_model(each.name), **inputs).logits
    assert_close(found, oracle(input_ids=IDS).logits[:, kept:], "engine", "logits")


def test_a_cache_of_other_sequences_is_refused(each):
    for rows in ([0], [0, 1]):
        inputs = {"input_ids": IDS[rows, 6:], "past_key_values": cached(each)}
        with pytest.raises(InputError, match=f"3 sequences, and the input has {len(rows)}"):
            run(each, tiny_model(each.name), **inputs)
