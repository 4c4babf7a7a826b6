"""The backend of ONNX Runtime, beside what the tests of all backends show of it."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import gptj
from gptj.backends import get_backend
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.spec.tensors import LazyTensor
from models import draw_ids, load, oracle, short_demo, tiny_config, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

from gptj.backends.onnxruntime import files, models  # noqa: E402

IDS = draw_ids((2, 7))


def build(weights=None, **options):
    """Return the tiny model with redrawn weights."""
    given = tiny_weights() if weights is None else weights
    tensors = {name: LazyTensor.of(array) for name, array in given.items()}
    config = gptj.GPTJConfig.from_dict(tiny_config().to_dict())
    return get_backend("onnxruntime").build(config, "causal_lm", params=tensors, **options)


def texts(backend, **options):
    """Return what the short demo generates in a backend."""
    tokenizer = gptj.load_tokenizer("demo")
    inputs = tokenizer(["def fib(n):", "import os"], padding=True, return_tensors="np")
    ids = load(backend, short_demo()).generate(**inputs, max_new_tokens=12, **options)
    return tokenizer.batch_decode(ids)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True, "seed": 7, "top_p": 0.9},
        {"num_beams": 3, "num_return_sequences": 2},
        {"prompt_lookup_num_tokens": 3},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
    ids=str,
)
def test_generated_texts_are_those_of_numpy(options):
    assert texts("onnxruntime", **options) == texts("numpy", **options)


def test_a_streamed_text_is_the_generated_one():
    model = load("onnxruntime", short_demo())
    whole = model.generate_text("def fib(n):", max_new_tokens=12)
    assert "".join(model.stream_text("def fib(n):", max_new_tokens=12)) in whole


def test_scores_are_those_of_numpy():
    given = ["import os\n", "def fib(n):"]
    found, true = (
        [sum(score.logprobs) for score in load(name, short_demo()).score(given)]
        for name in ("onnxruntime", "numpy")
    )
    assert_close(np.array(found), np.array(true), "exported", "logprobs")


def test_a_model_is_converted_once(tmp_path):
    first, second = build(engine_cache=tmp_path), build(engine_cache=tmp_path)
    assert first.folder == second.folder
    assert first.folder.parent == tmp_path / "onnxruntime"
    assert len([*first.folder.parent.iterdir()]) == 1


def test_other_graphs_are_of_another_form(tmp_path):
    config = tiny_config()
    tensors = {name: LazyTensor.of(array) for name, array in tiny_weights().items()}
    files.write_files(tmp_path, config, "causal_lm", tensors, models.INTERFACES)
    digest = hashlib.sha256()
    for name in models.INTERFACES:
        graph = onnx.load(tmp_path / name, load_external_data=False).graph
        for node in graph.node:
            found = {pair.name: str(helper.get_attribute_value(pair)) for pair in node.attribute}
            digest.update(repr((node.op_type, *node.input, *node.output, found)).encode())
    # another digest is another form: raise FORM, so that what is in users' caches is not used
    assert (models.FORM, digest.hexdigest()[:16]) == (1, "91095cf176ce5543")


def test_other_parameters_are_converted_anew(tmp_path):
    model = build(engine_cache=tmp_path)
    changed = {name: array + np.float32(0.1) for name, array in tiny_weights().items()}
    before = model(IDS).logits
    model.backend.load_params(model, {n: LazyTensor.of(x) for n, x in changed.items()})
    assert np.abs(model(IDS).logits - before).max() > 0.1
    assert_close(model(IDS).logits, build(changed)(IDS).logits, "exported", "logits")
    assert len([*(tmp_path / "onnxruntime").iterdir()]) == 2


def test_a_vocabulary_may_grow():
    model = build()
    before = model(IDS).logits
    model.resize_token_embeddings(tiny_config().vocab_size + 3)
    after = model(IDS).logits
    assert after.shape[2] == before.shape[2] + 3
    assert_close(after[..., :-3], before, "exported", "logits")


def test_what_is_saved_is_what_was_loaded(tmp_path):
    build().save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend="numpy")
    for name, tensor in again.params.items():
        np.testing.assert_array_equal(tensor.read(), tiny_weights()[name], name)


def test_a_cache_is_changed_by_no_later_call():
    model = build()
    cache = model.init_cache(2, 16)
    first = model(IDS[:, :4], past_key_values=cache, use_cache=True)
    kept = [array.copy() for array in first.past_key_values[1]]
    model(IDS[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    assert (cache.length, first.past_key_values.length) == (0, 4)
    for array, before in zip(first.past_key_values[1], kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_a_cache_goes_from_session_to_session():
    model, mask = build(), np.array([[1] * 7, [0] * 2 + [1] * 5])
    first = model(IDS[:, :4], attention_mask=mask[:, :4], use_cache=True)
    whole = model(
        IDS[:, 4:],
        past_key_values=first.past_key_values,
        attention_mask=mask,
        output_hidden_states=True,
    )
    expected = oracle(input_ids=IDS, attention_mask=mask)
    assert_close(whole.logits, expected.logits[:, 4:], "exported", "logits")
    assert_close(whole.hidden_states[1], expected.hidden_states[1][:, 4:], "exported", "hidden")


@pytest.mark.parametrize("name", ["gpu", "cuda:0"])
def test_a_device_that_it_lacks_is_refused(name):
    with pytest.raises(ArgumentError, match=r"'onnxruntime' has no device.*accepted are 'cpu'"):
        build(device=name)


def test_a_dtype_that_it_lacks_is_refused():
    with pytest.raises(UnsupportedFeature, match=r"float16.*float32"):
        gptj.load(short_demo(), backend="onnxruntime", dtype="float16")


def test_quantized_weights_are_refused_or_dequantized(tmp_path):
    gptj.load(short_demo(), backend="numpy", quantize="int8").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedFeature, match=r"quantize=.none."):
        gptj.load(tmp_path, backend="onnxruntime")
    found, true = (
        gptj.load(tmp_path, backend=name, quantize="none")(IDS).logits
        for name in ("onnxruntime", "numpy")
    )
    assert_close(found, true, "exported", "logits")


REPORTS = """
import sys
from pathlib import Path
from gptj.backends import get_backend
get_backend("onnxruntime")
print([path.name for path in Path(sys.argv[1]).rglob("*")])
"""


def test_onnxruntime_reports_nothing(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", REPORTS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
