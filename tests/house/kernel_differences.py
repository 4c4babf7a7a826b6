"""What differs between the kernels of the three backends, each with the reason for it."""

BIAS = "PyTorch: its kernels add the bias in the same call"
AUTOGRAD = "PyTorch: a custom derivative is a class"
XLA_BLOCKS = "XLA: blocks are a loop in the graph: (in, out) in Flax, (out, in) in TensorFlow"
TIED = "one weight in two modules: PyTorch shares it, Linen hands it on, Keras passes the table"

OWN_GRADIENT = "TensorFlow: in a graph a custom gradient must not be made anew for every model"
KERNELS = {
    "kernels/linear": {
        "matmul": BIAS,
        "kernel_for": "TensorFlow: the dtype of the weight decides, not the number of rows",
        "is_concrete": "PyTorch: kernels of other libraries see plain tensors alone",
        "choose_kernel": "PyTorch: several libraries have matmuls; the usual may be slow",
        "compute_dtype": "PyTorch: autocast is a mode, which kernels have to ask for",
        "_Matmul": AUTOGRAD,
        "_Matmul.forward": AUTOGRAD,
        "_Matmul.setup_context": AUTOGRAD,
        "_Matmul.backward": AUTOGRAD,
        "add": "TensorFlow: XLA would put an addition into the matmul, on one thread",
        "tied_matmul": TIED,
        "multiply_side_by_side": "jax: XLA shares the work among threads by parts of the inputs",
        "_matmul_natively": "jax: XLA shares the work among threads by parts of the inputs",
        "_is_slow_with_few": "jax: without AVX-512 XLA reads float32 slowly for a few rows",
    },
    "kernels/half_precision": {
        "_by_blocks_as_x": OWN_GRADIENT,
        "_gradient": OWN_GRADIENT,
        "matmul": BIAS,
        "rows_of": "TensorFlow: layers hand over a matrix, of which a graph may not know the rows",
        "describe_blocks": "PyTorch: has private kernels for a few tokens",
        "native": "PyTorch: its linear layer is not its fastest kernel for a single row",
        "matvec": "PyTorch: its linear layer is not its fastest kernel for a single row",
        "input_gradient": "PyTorch: its own derivatives are slow in half precision",
        "weight_gradient": "PyTorch: its own derivatives are slow in half precision",
        "_blocks": "PyTorch: blocks are upcast into one buffer; XLA has no buffers",
        "plain_matmul": "jax: the derivative, and other platforms, take the plain matmul",
        "describe_single_row": XLA_BLOCKS,
        "block_count": XLA_BLOCKS,
        "even_divisor": XLA_BLOCKS,
        "_add_up_rows": XLA_BLOCKS,
        "_add_up_row": XLA_BLOCKS,
        "_matmul_by_blocks": XLA_BLOCKS,
        "_by_blocks": XLA_BLOCKS,
        "_side_by_side": XLA_BLOCKS,
        "_multiply_block": XLA_BLOCKS,
        "_multiply_block_by_row": XLA_BLOCKS,
        "_runs": XLA_BLOCKS,
    },
    "kernels/int8": {
        "_by_fastest": OWN_GRADIENT,
        "_fastest": OWN_GRADIENT,
        "_gradient": OWN_GRADIENT,
        "packed": "PyTorch: has a private kernel",
        "has_packed": "PyTorch: has a private kernel",
        "_Matmul": AUTOGRAD,
        "_Matmul.forward": AUTOGRAD,
        "_Matmul.backward": AUTOGRAD,
        "by_slices": "TensorFlow: XLA multiplies few tokens by blocks, its own matmul many",
        "_dequantized_for": "TensorFlow: a graph would dequantize all weights at its start",
    },
    "kernels/int8_limbs": {
        "has_kernel": "PyTorch: has a private kernel",
        "_matmul": "TensorFlow: XLA compiles a function of tensors, and passes no gradient on",
    },
}
"""File -> name that differs between the backends -> the reason."""
