"""The ONNX graph of every head, in ONNX Runtime, against the oracle; and what its files hold."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from gptj.errors import CheckpointError
from gptj.spec.config_checks import ACTIVATIONS
from gptj.spec.heads import HEADS
from gptj.spec.params import parameter_table
from gptj.spec.positions import positions_from_mask
from gptj.spec.tensors import LazyTensor
from models import draw_ids, oracle, tiny_config, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from gptj.backends.onnxruntime import files, interface, weights  # noqa: E402

BATCH, LENGTH = 3, 11
IDS = draw_ids((BATCH, LENGTH))
MASKS = {
    "no padding": np.ones((BATCH, LENGTH), np.int64),
    "left padding": np.array([[0] * n + [1] * (LENGTH - n) for n in (0, 3, 7)]),
    "right padding": np.array([[1] * (LENGTH - n) + [0] * n for n in (0, 3, 7)]),
    "holes": np.array(
        [[1] * 11, [0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1]]
    ),
}
VARIANTS = {
    "as published": {},
    "tied": {"tie_word_embeddings": True},
    "another epsilon": {"layer_norm_epsilon": 0.01},
    "whole head rotated": {"rotary_dim": None},
    "one pair rotated": {"rotary_dim": 2},
    "another inner width": {"n_inner": 24},
    "one layer": {"n_layer": 1},
    **{f"activation {name}": {"activation_function": name} for name in ACTIVATIONS},
}
EXPORTED = interface.Interface()
CACHED = interface.Interface(cache=True, positions=True)


def lazy(head="causal_lm", **changes):
    return {name: LazyTensor.of(array) for name, array in tiny_weights(head, **changes).items()}


def write(folder, head="causal_lm", form=EXPORTED, tensors=None, **changes):
    """Write a variant of the tiny model, and return its configuration."""
    config = tiny_config(**changes)
    given = lazy(head, **changes) if tensors is None else tensors
    files.write_files(folder, config, head, given, {files.MODEL: form})
    return config


class Session:
    """A written model in ONNX Runtime, with arrays by name."""

    def __init__(self, folder):
        import onnxruntime

        path = str(folder / files.MODEL)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, **feeds):
        return dict(zip(self.names, self.session.run(None, feeds), strict=True))


def compare(found, expected, mask, head):
    """Compare the outputs of a head at the attended positions."""
    kept = ... if head == "sequence_classification" else mask != 0
    for name in HEADS[head].outputs:
        if name in found:
            assert_close(found[name][kept], expected[name][kept], "exported", name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_graph_of_ids_and_mask_equals_the_oracle(head, variant, tmp_path):
    changes = VARIANTS[variant]
    write(tmp_path, head, **changes)
    session = Session(tmp_path)
    for mask in MASKS.values():
        inputs = {"input_ids": IDS, "attention_mask": mask}
        expected = oracle(head, changes.items(), **inputs)
        compare(session(**inputs), expected, mask, head)


def cache_of(config, found=None):
    """Return the keys and values of a run as inputs of the next, or those of no tokens."""
    empty = np.zeros((BATCH, config.n_head, 0, config.head_dim), np.float32)
    return {
        past: empty if found is None else found[present]
        for layer in range(config.n_layer)
        for past, present in zip(
            interface.cache_names("past_key_values", layer),
            interface.cache_names("present", layer),
            strict=True,
        )
    }


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
@pytest.mark.parametrize("padding", ["no padding", "left padding"])
def test_a_graph_with_a_cache_continues_as_the_oracle(head, padding, tmp_path):
    config = write(tmp_path, head, CACHED)
    session, mask = Session(tmp_path), MASKS[padding]
    positions, cache, past = positions_from_mask(mask), cache_of(config), None
    for start, end in ((0, 8), (8, 9), (9, 11)):
        inputs = {"input_ids": IDS[:, start:end], "attention_mask": mask[:, :end]}
        found = session(**inputs, position_ids=positions[:, start:end], **cache)
        expected = oracle(head, **inputs, past_key_values=past)
        compare(found, expected, mask[:, start:end], head)
        cache, past = cache_of(config, found), expected.past_key_values
        for layer, arrays in enumerate(past):
            for name, array in zip(interface.cache_names("present", layer), arrays, strict=True):
                assert_close(found[name], array, "exported", name)


def test_positions_are_the_callers_where_they_are_an_input(tmp_path):
    config = write(tmp_path, form=CACHED)
    positions = np.random.Generator(np.random.PCG64(3)).integers(0, 64, (BATCH, LENGTH))
    inputs = {"input_ids": IDS, "attention_mask": MASKS["holes"], "position_ids": positions}
    found = Session(tmp_path)(**inputs, **cache_of(config))
    compare(found, oracle(**inputs), MASKS["holes"], "causal_lm")


@pytest.mark.parametrize(
    "form", [EXPORTED, CACHED, interface.WHOLE], ids=["plain", "cache", "whole"]
)
@pytest.mark.parametrize("head", HEADS)
def test_a_graph_is_plain_onnx(head, form, tmp_path):
    write(tmp_path, head, form)
    path = str(tmp_path / files.MODEL)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(found.domain, found.version) for found in model.opset_import] == [("", 20)]


def test_a_weight_that_is_tied_is_stored_once(tmp_path):
    sizes = {}
    for name, tied in (("tied", True), ("untied", False)):
        (tmp_path / name).mkdir()
        config = write(tmp_path / name, tie_word_embeddings=tied)
        sizes[name] = (tmp_path / name / files.WEIGHTS).stat().st_size
    table = 4 * config.vocab_size * config.n_embd
    assert table <= sizes["untied"] - sizes["tied"] <= table + weights.ALIGNMENT


@pytest.mark.parametrize("head", HEADS)
def test_weights_come_back_as_they_were(head, tmp_path):
    config = write(tmp_path, head)
    found = weights.stored_params(tmp_path / files.MODEL, config, head)
    assert list(found) == list(parameter_table(config, head))
    for name, array in tiny_weights(head).items():
        np.testing.assert_array_equal(found[name].read(), array, name)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_narrow_weights_are_widened(dtype, tmp_path):
    narrow = {name: array.astype(dtype) for name, array in tiny_weights().items()}
    tensors = {name: LazyTensor.of(array) for name, array in narrow.items()}
    config = write(tmp_path, tensors=tensors)
    found = weights.stored_params(tmp_path / files.MODEL, config, "causal_lm")
    for name, array in narrow.items():
        np.testing.assert_array_equal(found[name].read(), array.astype(np.float32), name)


def test_weights_are_written_one_at_a_time(tmp_path):
    config = tiny_config(n_embd=256, n_head=4, n_layer=8, n_inner=256)
    tensors = {
        name: LazyTensor(found.shape, np.dtype(np.float32), lambda s=found.shape: np.ones(s, "f4"))
        for name, found in parameter_table(config).items()
    }
    largest = max(tensor.nbytes for tensor in tensors.values())
    tracemalloc.start()
    try:
        weights.write_weights(tmp_path / "weights", config, "causal_lm", tensors)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(tensor.nbytes for tensor in tensors.values()) > 12 * largest
    assert peak < 4 * largest


def test_a_weight_that_cannot_be_read_leaves_the_earlier_file(tmp_path):
    def broken():
        raise CheckpointError("cut short")

    write(tmp_path)
    before = (tmp_path / files.WEIGHTS).read_bytes()
    tensors = lazy()
    last = LazyTensor(tensors["lm_head.bias"].shape, np.dtype(np.float32), broken)
    with pytest.raises(CheckpointError, match="cut short"):
        write(tmp_path, tensors={**tensors, "lm_head.bias": last})
    assert (tmp_path / files.WEIGHTS).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [files.MODEL, files.WEIGHTS]
