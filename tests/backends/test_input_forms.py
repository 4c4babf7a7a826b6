"""Inputs in every form in which users hold them: lists, arrays, tensors, every integer type."""

import numpy as np
import pytest

from array_layouts import in_other_order, read_only
from gptj.errors import InputError, TokenOutOfRange
from gptj.model.config import GPTJConfig
from gptj.spec.tensors import LazyTensor
from models import draw_ids, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 7), seed=31)
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]])
LABELS = np.where(MASK == 1, IDS, -100)
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SIGNED = tuple(name for name in INTEGERS if not name.startswith("u"))
ALLOWED = np.tril(np.ones((7, 7), bool)) & (MASK != 0)[:, None, None, :]  # (B, 1, T, S)


FORMS = {
    "lists": np.ndarray.tolist,
    "transposed": lambda array: np.ascontiguousarray(array.T).T,
    "strided": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    "reversed": lambda array: array[:, ::-1].copy()[:, ::-1],
    "big-endian": in_other_order,
    "read-only": read_only,
}


def call(backend, head="causal_lm", **inputs):
    """Call a model as a user does, with inputs as they are, and return arrays."""
    output = tiny_model(backend.name, head)(**inputs)
    return {
        name: backend.to_numpy(output[name]).astype(np.float64)
        for name in ("loss", "logits", "start_logits")
        if output.get(name) is not None
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_inputs_gives_the_same_numbers(backend, form):
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS, "token_type_ids": IDS}
    tensors = {name: backend.from_numpy(array) for name, array in inputs.items()}
    given = {name: FORMS[form](array) for name, array in inputs.items()}
    same(call(backend, **given), call(backend, **tensors))


def test_embeddings_and_factors_may_be_lists_and_wide(backend):
    embeds = np.random.default_rng(3).standard_normal((2, 7, 40), np.float32).astype(np.float64)
    factors = np.array([0.5, 1, 2, 1])
    given = call(backend, inputs_embeds=embeds.tolist(), head_mask=factors.tolist())
    tensors = (backend.from_numpy(array.astype(np.float32)) for array in (embeds, factors))
    same(given, call(backend, **dict(zip(("inputs_embeds", "head_mask"), tensors, strict=True))))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_ids_may_be_of_every_integer_type(backend, dtype):
    inputs = {"input_ids": IDS, "position_ids": MASK.cumsum(1), "token_type_ids": IDS}
    expected = call(backend, **inputs, labels=IDS)
    narrow = {name: array.astype(dtype) for name, array in inputs.items()}
    same(call(backend, **narrow, labels=IDS.astype(dtype)), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tensors_of_ids_may_be_of_every_integer_type(backend, dtype):
    tensor = backend.from_numpy(IDS.astype(dtype))
    same(call(backend, input_ids=tensor, labels=tensor), call(backend, input_ids=IDS, labels=IDS))


@pytest.mark.parametrize("dtype", SIGNED)
def test_ignored_labels_may_be_of_every_signed_type(backend, dtype):
    expected = call(backend, input_ids=IDS, labels=LABELS)
    same(call(backend, input_ids=IDS, labels=LABELS.astype(dtype)), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "float16", "float64"])
def test_a_mask_may_be_of_every_type(backend, dtype):
    expected = call(backend, input_ids=IDS, attention_mask=MASK)
    same(call(backend, input_ids=IDS, attention_mask=MASK.astype(dtype)), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16"])
@pytest.mark.parametrize("head", ["sequence_classification", "question_answering"])
def test_targets_of_the_other_heads_may_be_narrow(backend, head, dtype):
    targets = {"labels": [1, 0]}
    if head == "question_answering":
        targets = {"start_positions": [1, 5], "end_positions": [3, 9]}
    narrow = {name: np.array(value, dtype) for name, value in targets.items()}
    expected = call(backend, head, input_ids=IDS, **targets)
    same(call(backend, head, input_ids=IDS.astype(dtype), **narrow), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_prompts_may_be_of_every_integer_type(backend, dtype):
    model = tiny_model(backend.name)
    options = {"max_new_tokens": 4, "eos_token_id": None}
    expected = backend.to_numpy(model.generate(IDS, MASK, **options))
    found = model.generate(IDS.astype(dtype), MASK.astype(dtype), **options)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)
    tensor = backend.from_numpy(IDS.astype(dtype))
    found = model.generate(tensor, MASK.tolist(), **options)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
@pytest.mark.parametrize("heads", [1, 4])
def test_a_4d_mask_of_bool_or_integers_says_who_may_look(backend, dtype, heads):
    mask = ALLOWED.repeat(heads, axis=1)
    added = np.where(mask, 0.0, -np.inf).astype(np.float32)
    places = {"position_ids": np.maximum(MASK.cumsum(1) - 1, 0)}
    found = call(backend, input_ids=IDS, attention_mask=mask.astype(dtype), **places)
    same(found, call(backend, input_ids=IDS, attention_mask=added, **places))
    expected = call(backend, input_ids=IDS, attention_mask=MASK)
    kept = MASK != 0
    assert_close(found["logits"][kept], expected["logits"][kept], "float32", "logits")


def changed(mask, value):
    copy = mask.astype(np.float64)
    copy[(0,) * copy.ndim] = value
    return copy


BAD_MASKS = {
    "NaN": (changed(MASK, np.nan), r"attention_mask holds nan at \[0, 0\]; accepted are 1 or True"),
    "a half": (changed(MASK, 0.5), r"attention_mask holds 0.5 at \[0, 0\]"),
    "negative": (changed(MASK, -1).astype(int), r"attention_mask holds -1 at \[0, 0\]"),
    "two": (changed(MASK, 2).astype(int), r"attention_mask holds 2 at \[0, 0\]"),
    "floats of 0 and 1": (ALLOWED.astype(np.float32), "make it a mask of bool or of integers"),
    "additive integers": (
        np.where(ALLOWED, 0, -10000),
        r"holds -10000 at \[0, 0, 0, 1\]; .* mask of floats .* is added",
    ),
    "additive NaN": (changed(ALLOWED - 1.0, np.nan), r"holds nan at \[0, 0, 0, 0\]; a 4-D mask"),
    "additive inf": (changed(ALLOWED - 1.0, np.inf), r"holds inf at \[0, 0, 0, 0\]; a 4-D mask"),
}


@pytest.mark.parametrize("bad", BAD_MASKS)
def test_a_mask_of_other_values_is_refused(backend, bad):
    mask, message = BAD_MASKS[bad]
    with pytest.raises(InputError, match=message):
        call(backend, input_ids=IDS, attention_mask=mask)
    if mask.ndim == 2:
        with pytest.raises(InputError, match=message):
            tiny_model(backend.name).generate(IDS, mask, max_new_tokens=1)


BAD_INPUTS = {
    "ragged": ([[1, 2, 3], [4]], InputError, "must be a rectangle; found rows of 1 and 3 numbers"),
    "text": ([["import"]], InputError, r"'import', a text. Encode it first: tokenizer\(text\)"),
    "objects": ([[None, 1]], InputError, "must hold numbers; found None"),
    "huge": ([[2**70]], InputError, "must hold numbers; found 1180591620717411303424"),
    "beyond int64": (np.array([[2**64 - 1]], np.uint64), TokenOutOfRange, "input_ids holds"),
    "beyond int32": ([[2**32]], TokenOutOfRange, "input_ids holds"),
    "booleans": ([[True, False]], InputError, "input_ids must hold integers; found .*bool"),
    "nothing": ([[]], InputError, "The input is empty"),
}


@pytest.mark.parametrize("bad", BAD_INPUTS)
def test_ids_that_are_none_are_refused(backend, bad):
    ids, kind, message = BAD_INPUTS[bad]
    with pytest.raises(kind, match=message):
        call(backend, input_ids=ids)
    with pytest.raises(kind, match=message):
        tiny_model(backend.name).generate(ids, max_new_tokens=1)


def test_a_count_of_logits_may_be_of_numpy(backend):
    expected = call(backend, input_ids=IDS)["logits"]
    found = call(backend, input_ids=IDS, logits_to_keep=np.int64(2))["logits"]
    assert_close(found, expected[:, -2:], "float32", "logits")
    found = call(backend, input_ids=IDS, logits_to_keep=[0, 3])["logits"]
    assert_close(found, expected[:, [0, 3]], "float32", "logits")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "lists"])
def test_weights_may_be_of_every_layout(backend, form):
    arrays = {name: FORMS[form](w) if w.ndim == 2 else w for name, w in tiny_weights().items()}
    params = {name: LazyTensor.of(array) for name, array in arrays.items()}
    config = GPTJConfig.from_dict(tiny_config().to_dict())
    model = backend.build(config, "causal_lm", params=params, dtype="float32", device=None)
    expected = call(backend, input_ids=IDS)["logits"]
    np.testing.assert_array_equal(backend.to_numpy(model(IDS).logits), expected)
    model = backend.build(config, "causal_lm", params=None, dtype="float32", device=None)
    backend.load_params(model, params)
    np.testing.assert_array_equal(backend.to_numpy(model(IDS).logits), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_a_traced_call_takes_narrow_ids_too(framework, dtype):
    model, ids = tiny_model(framework.name), framework.from_numpy(IDS.astype(dtype))

    def loss(ids):
        return model(input_ids=ids, labels=ids).loss

    traced = loss
    if framework.name == "tf":
        traced = pytest.importorskip("tensorflow").function(loss, autograph=False)
    if framework.name == "flax":
        traced = pytest.importorskip("jax").jit(loss)
    expected = call(framework, input_ids=IDS, labels=IDS)["loss"]
    assert_close(framework.to_numpy(traced(ids)), expected, "float32", "loss")
