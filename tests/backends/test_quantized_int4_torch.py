"""Products and models with int4 weights in PyTorch, in the layout of files and in the kernel's."""

import copy

import numpy as np
import pytest

import gptj
from gptj.errors import UnsupportedFeature
from gptj.spec.params import parameter_bytes
from gptj.spec.quantization import QUANTIZERS
from gptj.spec.reference import forward
from models import DEMO, draw_ids, run
from quantized_cases import quantized_config, quantized_model, quantized_weights
from tolerances import assert_close

torch = pytest.importorskip("torch")

from gptj.backends.torch.kernels import half_precision, int4, int4_layout, int8  # noqa: E402 (after the skip)

pytestmark = pytest.mark.frameworks

SIZES = {"n_embd": 128, "n_inner": 256, "n_layer": 1, "vocab_size": 128}
INT4 = {"quantize": "int4", **SIZES}
IDS = draw_ids((2, 6), seed=43)
NAME = "transformer.h.0.mlp.fc_in.weight"
REFUSED = "int4. Train an adapter with add_lora"
TEXT = "def add(a, b):\n    return a + b\n\nOnce upon a time there was a little girl who lived in"

GENERATOR = np.random.Generator(np.random.PCG64(31))
X = GENERATOR.standard_normal((7, 256)).astype(np.float32)
STORED = GENERATOR.integers(0, 256, (192, 128)).astype(np.uint8)
SCALE = (0.01 + 0.1 * GENERATOR.random((192, 2))).astype(np.float32)
MEANT = QUANTIZERS["int4"].dequantize(STORED, SCALE, np.float64)


@pytest.fixture(params=["files", "kernel"])
def layout(request, monkeypatch):
    """The layout of a model in bfloat16, chosen by hand."""
    if request.param == "kernel" and not int4.has_kernel():
        pytest.skip("this PyTorch has no such kernel, or not for this processor")
    monkeypatch.setattr(int4, "has_kernel", lambda: request.param == "kernel")
    return request.param


@pytest.fixture
def weight(layout):
    """The stored weight (192, 256) in that layout."""
    return int4.arranged(torch.from_numpy(STORED), "bfloat16")


def compute(function, weight, dtype):
    x = torch.from_numpy(X).to(getattr(torch, dtype))
    return function(x, weight, torch.from_numpy(SCALE)).float().numpy()


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "upcast"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("path", [int8.matmul, int4.by_blocks, int4.by_definition])
def test_every_path_computes_the_definition(weight, path, dtype, is_native, monkeypatch):
    blocks = dict.fromkeys(half_precision.BLOCK_SIZE, 256 * 128)  # a block and a rest
    monkeypatch.setattr(half_precision, "BLOCK_SIZE", blocks)
    monkeypatch.setattr(half_precision, "is_native", lambda dtype: is_native)
    assert_close(compute(path, weight, dtype), X @ MEANT.T, dtype)


@pytest.mark.parametrize("layout", ["kernel"], indirect=True)
def test_the_kernel_computes_the_definition(weight):
    assert int4_layout.is_for_kernel(weight)
    assert_close(compute(int4.by_kernel, weight, "bfloat16"), X @ MEANT.T, "bfloat16")


@pytest.mark.parametrize("layout", ["kernel"], indirect=True)
def test_the_layout_of_the_kernel_is_undone_exactly(weight, monkeypatch):
    monkeypatch.setattr(int4_layout, "ROWS_AT_A_TIME", 64)
    assert weight.nbytes == STORED.nbytes
    assert torch.equal(weight, int4_layout.to_kernel(torch.from_numpy(STORED)))
    np.testing.assert_array_equal(int4_layout.from_kernel(weight, len(STORED)), STORED)


@pytest.mark.parametrize("layout", ["kernel"], indirect=True)
def test_the_layout_of_files_stays_where_the_kernel_is_no_use(layout):
    stored = torch.from_numpy(STORED)
    assert int4.arranged(stored, "float32") is stored
    odd = stored[:40]
    assert int4.arranged(odd, "bfloat16") is odd
    assert int4.arranged(stored.to("meta"), "bfloat16").shape == stored.shape


def test_without_the_kernel_the_layout_of_files_stays(monkeypatch):
    def missing(weight):
        raise AttributeError("no attribute '_convert_weight_to_int4pack_for_cpu'")

    monkeypatch.setattr(int4, "to_kernel", missing)
    int4.has_kernel.cache_clear()
    try:
        assert not int4_layout.is_for_kernel(int4.arranged(torch.from_numpy(STORED), "bfloat16"))
        assert "kernel" not in int4.describe()
    finally:
        int4.has_kernel.cache_clear()


def test_gradients_reach_the_input(weight):
    x = torch.from_numpy(X).requires_grad_()
    int8.matmul(x, weight, torch.from_numpy(SCALE)).sum().backward()
    assert_close(x.grad.numpy(), np.ones((len(X), len(STORED))) @ MEANT, "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_output_can_be_changed_in_place(weight, dtype):
    x = torch.from_numpy(X).to(getattr(torch, dtype)).requires_grad_()
    y = int8.matmul(x, weight, torch.from_numpy(SCALE))
    y[:, 5:] = 0
    y.sum().backward()
    assert_close(x.grad.float().numpy(), np.ones((len(X), 5)) @ MEANT[:5], dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_code_takes_the_definition(weight, dtype, monkeypatch):
    monkeypatch.setattr(int4, "by_blocks", None)
    monkeypatch.setattr(int4, "by_kernel", None)
    compiled = torch.compile(int8.matmul, backend="eager", fullgraph=True)
    assert_close(compute(compiled, weight, dtype), X @ MEANT.T, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_outputs_are_the_oracles_on_what_the_numbers_mean(torch_backend, layout, dtype):
    expected = forward(quantized_config(**INT4), quantized_weights(**INT4), input_ids=IDS).logits
    found = run(torch_backend, quantized_model("torch", dtype=dtype, **INT4), input_ids=IDS).logits
    assert_close(found, expected, dtype, "logits")


def test_memory_holds_the_stored_numbers_once(torch_backend, layout):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    assert (layout == "kernel") == int4_layout.is_for_kernel(model.get_parameter(NAME))
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert held == parameter_bytes(quantized_config(**INT4), "causal_lm", 2)
    stored = parameter_bytes(quantized_config(**SIZES), "causal_lm", 2)  # in int8
    assert held < 0.75 * stored  # of which the word table is a tenth


def assert_stored(tensors):
    """Fail where the numbers and the scales are not those of the files, bit for bit."""
    for name, expected in quantized_weights(**INT4).items():
        if expected.dtype == np.uint8 or name.endswith("_scale"):
            np.testing.assert_array_equal(np.asarray(tensors[name]), expected.read(), err_msg=name)


def test_a_saved_model_has_the_same_numbers(torch_backend, layout, tmp_path):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    assert_stored(torch_backend.dump_params(model))
    model.save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend="torch")
    assert again.config.quantization == "int4"
    assert_stored(torch_backend.dump_params(again))
    before = run(torch_backend, model, input_ids=IDS).logits
    np.testing.assert_array_equal(run(torch_backend, again, input_ids=IDS).logits, before)


def test_a_state_dict_has_the_numbers_of_the_files(torch_backend, layout):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    state = model.state_dict()
    assert_stored({name: value.float().numpy() for name, value in state.items()})
    other = torch_backend.build(quantized_config(**INT4), "causal_lm", seed=4)
    other.to(torch.bfloat16).load_state_dict(state)
    model.load_state_dict(state)
    for found in (other, model):
        assert_stored(torch_backend.dump_params(found))
    np.testing.assert_array_equal(
        run(torch_backend, other, input_ids=IDS).logits,
        run(torch_backend, model, input_ids=IDS).logits,
    )


def test_a_move_and_a_cast_leave_the_numbers(torch_backend, layout):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    expected = run(torch_backend, model, input_ids=IDS).logits
    assert_close(run(torch_backend, copy.deepcopy(model), input_ids=IDS).logits, expected)
    assert_stored(torch_backend.dump_params(model.float()))
    assert_close(run(torch_backend, model, input_ids=IDS).logits, expected, "bfloat16")
    moved = model.to("meta").get_parameter(NAME)
    assert (moved.shape, moved.dtype) == ((256, 64), torch.uint8)


def test_a_vocabulary_grows(torch_backend, layout):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    model.resize_token_embeddings(160)
    found = torch_backend.dump_params(model)["lm_head.weight"].read()
    np.testing.assert_array_equal(found[:128], quantized_weights(**INT4)["lm_head.weight"].read())
    assert run(torch_backend, model, input_ids=np.full((1, 3), 155)).logits.shape == (1, 3, 160)


def test_a_model_can_be_drawn(torch_backend):
    model = torch_backend.build(quantized_config(**INT4), "causal_lm", seed=3)
    assert model.get_parameter(NAME).dtype == torch.uint8
    assert np.isfinite(run(torch_backend, model, input_ids=IDS).logits).all()


def test_adapters_alone_are_trained(torch_backend, layout):
    model = quantized_model("torch", dtype="bfloat16", **INT4)
    plain = run(torch_backend, model, input_ids=IDS).logits
    with pytest.raises(UnsupportedFeature, match=REFUSED):
        model.train()
    model.add_lora(rank=2, targets=("q_proj", "fc_out", "lm_head"), seed=5)
    assert_close(run(torch_backend, model, input_ids=IDS).logits, plain, "bfloat16")
    with pytest.raises(UnsupportedFeature, match=r"merge_lora\(\) needs weights that can change"):
        model.merge_lora()
    ids = torch.from_numpy(IDS)
    model.train()(input_ids=ids, labels=ids).loss.backward()
    grown = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grown == {name for name, _ in model.named_parameters() if "adapter" in name}


def test_the_demo_loses_little_of_its_perplexity(torch_backend):
    exact = gptj.load(DEMO, backend="torch", dtype="float32").score(TEXT)
    model = gptj.load(DEMO, backend="torch", dtype="float32", quantize="int4")
    assert model.config.quantization == "int4"
    assert abs(model.score(TEXT).perplexity / exact.perplexity - 1.0) < 0.03
