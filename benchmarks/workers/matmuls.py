"""oneDNN's matmul by PyTorch's private operator: a part of the roofline, not a system."""

import torch

from gptj.bench.protocol import serve
from gptj.bench.roofline import Roofline, fastest, matmul_rate


class OneDNN:
    def limits(self, buffer, width):
        rates = {name: _rate(getattr(torch, name), width) for name in ("float32", "bfloat16")}
        return Roofline(bytes=_reading(buffer), **rates).to_dict()


def _reading(buffer):
    """Return bytes per second of a matmul of a matrix of so many bytes with a vector."""
    width = 4096
    weight, x = torch.ones(buffer // (4 * width), width), torch.ones(1, width)
    seconds = fastest(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""))
    return 4 * weight.numel() / seconds


def _rate(dtype, width):
    """Return operations per second, or 0 where the processor does not compute in that dtype."""

    def multiply(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")

    try:
        return matmul_rate(multiply, lambda size: torch.ones(size, size, dtype=dtype), width)
    except RuntimeError:
        return 0.0


if __name__ == "__main__":
    serve(OneDNN())
