"""How fast each kernel of PyTorch's multiplies on this machine's CPU.

    python benchmarks/matmuls.py --report benchmarks/matmuls-PROCESSOR.md

The tables in `gptj/backends/torch/kernels` that choose a kernel for a number of tokens follow from
these measurements. A cell is billions of weights a second, over matrices with 150 million weights
together; times two and the tokens it is GFLOP/s, times the bytes of a weight GB/s.
"""

import torch
import torch.nn.functional as F
from matmul_report import arguments, deliver, rate

from gptj.backends.torch.kernels import float32, half_precision, int8, int8_limbs

TOKENS = (1, 2, 4, 8, 16, 32, 128, 512)
SHAPES = ((1024, 1024), (4096, 1024), (1024, 4096), (50400, 1024))
TOTAL = 15 * 10**7
"""Weights that are read in turn."""


def kernels_of():
    """Return (dtype of the weights, kernel) -> matmul of (N, in) with one of them."""
    scale = torch.rand(max(outputs for outputs, _ in SHAPES))

    def stored(matmul, dtype):
        return lambda x, weight: matmul(x.to(dtype), weight, scale[: len(weight)])

    def dense(matmul):
        return lambda x, weight: matmul(x.to(weight.dtype), weight, None)

    found = {("float32", "pytorch"): dense(F.linear)}
    if float32.has_onednn():
        found["float32", "onednn"] = dense(float32.onednn)
    found["bfloat16", "pytorch"] = dense(F.linear)
    found["bfloat16", "vector"] = dense(half_precision.matvec)
    found["bfloat16", "blocks"] = dense(
        lambda x, w, _: half_precision.by_blocks(x.float(), w).to(x.dtype)
    )
    if int8.has_packed():
        found["int8", "packed, x in bfloat16"] = stored(int8.packed, torch.bfloat16)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        if int8_limbs.has_kernel():
            found["int8", f"limbs, x in {name}"] = stored(int8.by_limbs, dtype)
        found["int8", f"blocks, x in {name}"] = stored(int8.by_blocks, dtype)
    return found


def cell(name, matmul, weights, tokens):
    """Return a rate in words, where a kernel is one for so many tokens."""
    if name == "vector" and tokens > 1:
        return ""
    x = torch.randn(tokens, weights[0].shape[1])

    def multiply_in_turn():
        for weight in weights:
            matmul(x, weight)

    return f"{rate(multiply_in_turn, sum(weight.numel() for weight in weights)):.2f}"


def drawn(dtype, shape):
    """Return matrices of a shape, as many as it takes to exceed the caches."""
    count = max(1, TOTAL // (shape[0] * shape[1]))
    if dtype == "int8":
        return [torch.randint(-127, 128, shape, dtype=torch.int8) for _ in range(count)]
    return [torch.randn(shape).to(getattr(torch, dtype)) for _ in range(count)]


@torch.no_grad()
def main():
    options = arguments(__doc__)
    rows = []
    for (dtype, name), matmul in kernels_of().items():
        for shape in SHAPES:
            weights = drawn(dtype, shape)
            cells = [cell(name, matmul, weights, tokens) for tokens in TOKENS]
            rows.append([dtype, name, f"{shape[0]} x {shape[1]}", *cells])
    surroundings = f" ({torch.backends.cpu.get_cpu_capability()}), PyTorch {torch.__version__}"
    columns = ("weights", "kernel", "out x in")
    deliver(__doc__, surroundings, columns, TOKENS, rows, options.report)


if __name__ == "__main__":
    main()
