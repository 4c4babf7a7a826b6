"""Matmuls in PyTorch by every kernel, and the loss that goes through one."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from gptj import GPTJConfig, GPTJForCausalLM  # noqa: E402
from gptj.backends.torch import losses  # noqa: E402
from gptj.backends.torch.kernels import (  # noqa: E402
    float32,
    half_precision,
    int4,
    int8,
    int8_limbs,
    linear,
)

pytestmark = pytest.mark.frameworks

FLOAT32 = [float32.PYTORCH] + ([float32.ONEDNN] if float32.has_onednn() else [])
CASES = [
    *((kernel, torch.float32) for kernel in FLOAT32),
    (half_precision.BLOCKS, torch.bfloat16),
    (half_precision.BLOCKS, torch.float16),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].name}-{case[1]}")
def case(request, monkeypatch):
    """A kernel and its dtype; it is chosen, and a small weight has several blocks and a rest."""
    kernel, dtype = request.param
    monkeypatch.setattr(linear, "choose_kernel", lambda dtype, rows: kernel)
    monkeypatch.setattr(half_precision, "BLOCK_SIZE", dict.fromkeys(half_precision.BLOCK_SIZE, 100))
    return kernel, dtype


def drawn(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize("rows", [(2, 40), (3,), (), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_value_and_derivatives_are_those_of_float64(case, rows, with_bias):
    check_value_and_derivatives(rows, case[1], with_bias)


@pytest.mark.parametrize("rows", [(1, 1), (1,), ()], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_row_alone_is_multiplied_alike(monkeypatch, rows, with_bias):
    monkeypatch.setattr(half_precision, "is_native", lambda dtype: True)
    assert (
        linear.choose_kernel(torch.bfloat16, 1)
        is half_precision.VECTOR
        is not half_precision.native(torch.bfloat16, 2)
    )
    check_value_and_derivatives(rows, torch.bfloat16, with_bias)


@pytest.mark.parametrize("rows", [(2, 5), (1, 1), (1,), ()], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_an_output_can_be_changed_in_place(case, rows, with_bias):
    check_change_in_place(rows, case[1], with_bias)


@pytest.mark.parametrize("rows", [(1, 1), ()], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_output_of_a_row_alone_can_be_changed_in_place(monkeypatch, rows, with_bias):
    monkeypatch.setattr(half_precision, "is_native", lambda dtype: True)
    check_change_in_place(rows, torch.bfloat16, with_bias)


def check_change_in_place(rows, dtype, with_bias):
    """Add to the output and erase a part of it, as adapters and interventions do."""
    found = []
    for multiply in (linear.matmul, F.linear):
        x, weight = drawn(*rows, 24, dtype=dtype), drawn(37, 24, dtype=dtype, seed=1)
        bias = drawn(37, dtype=dtype, seed=2) if with_bias else None
        added = drawn(*rows, 37, dtype=dtype, seed=3)
        y = multiply(x, weight, bias)
        y += added
        y[..., :5] = 0
        inputs = [x, weight, added] + ([bias] if with_bias else [])
        found.append([y, *torch.autograd.grad((0.1 * y).square().sum(), inputs)])
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.05}
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **close)


def check_value_and_derivatives(rows, dtype, with_bias):
    x, weight = drawn(*rows, 24, dtype=dtype), drawn(37, 24, dtype=dtype, seed=1)
    given = [x, weight, drawn(37, dtype=dtype, seed=2)] if with_bias else [x, weight]
    y = linear.matmul(*given, *([] if with_bias else [None]))
    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    gradient = drawn(*rows, 37, dtype=dtype, seed=3).detach()
    found = torch.autograd.grad(y, given, gradient)
    expected = F.linear(*wide)
    wanted = torch.autograd.grad(expected, wide, gradient.double())
    close = {"rtol": 1e-6, "atol": 3e-5} if dtype == torch.float32 else {"rtol": 0.01, "atol": 0.02}
    for one, other in zip([y, *found], [expected, *wanted], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, **close)


def test_derivatives_of_derivatives_are_those_of_pytorch(case):
    _, dtype = case
    if dtype != torch.float32:
        pytest.skip("half precision says nothing of second derivatives")
    x, weight, along = drawn(5, 24), drawn(37, 24, seed=1), drawn(5, 24, seed=2).detach()

    def second(multiply):
        slope = torch.autograd.grad(multiply(x, weight).tanh().sum(), x, create_graph=True)[0]
        return torch.autograd.grad((slope * along).sum(), (x, weight))

    for one, other in zip(
        second(lambda x, w: linear.matmul(x, w, None)), second(F.linear), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_transforms_see_pytorchs_own_matmul(case):
    x, weight = drawn(4, 3, 24), drawn(37, 24, seed=1)

    def loss(weight, x):
        return linear.matmul(x, weight, None).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
    expected = torch.stack([torch.autograd.grad(loss(weight, one), weight)[0] for one in x])
    torch.testing.assert_close(found, expected)


def test_autocast_computes_in_its_dtype_and_keeps_gradients_in_float32(monkeypatch):
    monkeypatch.setattr(linear, "choose_kernel", lambda dtype, rows: half_precision.BLOCKS)
    x, weight = drawn(40, 24), drawn(37, 24)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear.matmul(x, weight, None)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == weight.grad.dtype == torch.float32


def test_only_what_is_asked_for_is_differentiated(case):
    _, dtype = case
    x, weight = drawn(40, 24, dtype=dtype), drawn(37, 24, dtype=dtype).detach()
    linear.matmul(x, weight, None).sum().backward()
    assert x.grad is not None and weight.grad is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (float32.NO_ROW_COUNTS, "MKL"),
        (float32.ALL_ROW_COUNTS, "oneDNN"),
        (range(1, 129), "oneDNN up to 128 tokens, then MKL"),
        (range(3, 256), "MKL up to 2 tokens, then oneDNN up to 255 tokens, then MKL"),
    ],
)
def test_the_kernels_for_float32_are_described_in_words(monkeypatch, rows, words):
    monkeypatch.setattr(linear, "rows_for_onednn", lambda: rows)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert linear.describe(torch.float32) == words


@pytest.mark.parametrize("name", [kernel.name for kernel in FLOAT32])
def test_the_environment_names_the_kernel(name):
    code = (
        "from gptj.backends.torch.kernels.float32 import float32; "
        "print(float32(1).name, float32(999).name)"
    )
    assert run(code, name).stdout.split() == [name, name]


def test_an_unknown_kernel_is_refused_by_name():
    code = "from gptj.backends.torch.kernels.float32 import float32; float32(1)"
    assert (
        "GPTJ_TORCH_PRODUCTS is 'cublas'; this machine has 'pytorch'" in run(code, "cublas").stderr
    )


def run(code, name):
    environment = {"PATH": "", "GPTJ_TORCH_PRODUCTS": name}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )


CONFIG = GPTJConfig(
    vocab_size=211, n_embd=16, n_layer=1, n_head=2, rotary_dim=4, n_positions=32, bos_token_id=1
)
IDS = torch.arange(36).reshape(3, 12) * 7 % 211
LABELS = IDS.where(IDS % 5 != 0, -100)


@pytest.fixture
def model(monkeypatch):
    """A model whose rows of logits come in several parts, the last one smaller."""
    monkeypatch.setattr(losses, "POSITIONS_AT_A_TIME", 8)
    return GPTJForCausalLM(CONFIG, seed=3, attn_implementation="eager")


def gradients(model, loss, **options):
    return torch.autograd.grad(loss, list(model.parameters()), **options)


def plain(model):
    """Return the loss as PyTorch's own operations compute it."""
    logits = model(IDS).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten())


def test_the_loss_and_its_gradients_are_those_of_the_plain_way(model, case):
    _, dtype = case
    model = model.to(dtype)
    loss, expected = model(IDS, labels=LABELS).loss, plain(model)
    close = {} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.002}
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(found, wanted, **close)


def test_a_loss_and_logits_may_both_be_differentiated(model):
    output = model(IDS, labels=LABELS)
    both = output.loss + output.logits.square().mean()
    expected = plain(model) + model(IDS).logits.square().mean()
    for found, wanted in zip(gradients(model, both), gradients(model, expected), strict=True):
        torch.testing.assert_close(found, wanted)


def test_second_derivatives_of_the_loss_are_those_of_the_plain_way(model):
    def second(loss):
        first = gradients(model, loss, create_graph=True)
        return gradients(model, sum(one.square().sum() for one in first))

    fused = second(model(IDS, labels=LABELS).loss)
    for found, wanted in zip(fused, second(plain(model)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_hooks_on_the_head_take_part_in_the_loss(model):
    model.lm_head.register_forward_hook(lambda module, inputs, y: y * 0.5)
    loss, expected = model(IDS, labels=LABELS).loss, plain(model)
    for found, wanted in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_frozen_head_gets_no_gradient(model):
    model.lm_head.requires_grad_(False)
    model(IDS, labels=LABELS).loss.backward()
    assert model.lm_head.weight.grad is None and model.transformer.wte.weight.grad is not None


class Kept(TorchDispatchMode):
    """Keeps every tensor that an operation returned, so that no memory is used twice."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.tensors.append(result)
        return result


def test_nothing_else_of_the_size_of_the_logits_is_ever_made(model):
    with Kept() as kept:
        output = model(IDS, labels=LABELS)
        output.loss.backward()
    storages = {tensor.untyped_storage() for tensor in kept.tensors}
    large = {s.data_ptr() for s in storages if s.nbytes() >= output.logits.nbytes}
    assert large == {output.logits.untyped_storage().data_ptr()}


def test_trials_run_on_the_processor_whatever_the_default_device_is():
    trials = (int8_limbs.has_kernel, int4.has_kernel, float32.has_onednn, int8.has_packed)
    expected = [trial() for trial in trials]
    for trial in trials:
        trial.cache_clear()
    with torch.device("meta"):
        assert [trial() for trial in trials] == expected
