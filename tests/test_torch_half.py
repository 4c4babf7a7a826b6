"""Half-precision products in PyTorch on a CPU without instructions for them."""

import pytest

torch = pytest.importorskip("torch")

from gptj.backends.torch import half  # noqa: E402

DTYPES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def without_instructions(monkeypatch):
    """Take the path of such a CPU on any."""
    monkeypatch.setattr(half, "is_native", lambda dtype: dtype == torch.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let a small weight have several blocks, of which the last is smaller."""
    monkeypatch.setattr(half, "BLOCK", 100)


def drawn(*shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [(2, 40), (3,), ()], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_value_and_derivatives_are_those_of_float32(dtype, rows, with_bias, small_blocks):
    x = drawn(*rows, 24, dtype=dtype, seed=0)
    weight = drawn(37, 24, dtype=dtype, seed=1)
    bias = drawn(37, dtype=dtype, seed=2) if with_bias else None
    given = [x, weight] + ([bias] if with_bias else [])
    y = half.linear(x, weight, bias)
    wide = [tensor.detach().float().requires_grad_() for tensor in given]
    expected = torch.nn.functional.linear(*wide)
    gradient = drawn(*rows, 37, dtype=dtype, seed=3).detach()
    found = torch.autograd.grad(y, given, gradient)
    wanted = torch.autograd.grad(expected, wide, gradient.float())
    assert y.dtype == dtype
    for one, other in zip([y, *found], [expected, *wanted], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.float(), other, rtol=2**-7, atol=0.02)


def test_autocast_computes_in_its_dtype_and_keeps_gradients_in_float32(small_blocks):
    x, weight = (drawn(*s, dtype=torch.float32, seed=0) for s in ((40, 24), (37, 24)))
    with torch.autocast("cpu", torch.bfloat16):
        y = half.linear(x, weight, None)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == weight.grad.dtype == torch.float32


def test_only_what_is_asked_for_is_differentiated():
    x, weight = (drawn(*s, dtype=torch.bfloat16, seed=0) for s in ((40, 24), (37, 24)))
    half.linear(x, weight.requires_grad_(False), None).sum().backward()
    assert x.grad is not None and weight.grad is None


def test_float32_is_left_to_pytorch():
    x, weight = (drawn(*s, dtype=torch.float32, seed=0) for s in ((40, 24), (37, 24)))
    assert torch.equal(half.linear(x, weight, None), torch.nn.functional.linear(x, weight))
