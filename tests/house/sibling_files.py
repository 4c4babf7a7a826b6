"""Files, arguments and classes of one framework alone, each with the reason for it."""

EXTRA_FILES = {
    "tf/call_inputs": "Keras: one argument may be a tensor, a list or a dict of all inputs",
    "tf/keras_fit": "Keras: its own training loop, which runs in a graph; others write theirs",
    "tf/keras_checks": "Keras: what its training loop would take, and compute wrongly or never",
    "tf/keras_methods": "Keras: models inherit methods from it that other frameworks do not have",
    "tf/saved_model": "TensorFlow: a SavedModel has signatures, which return dicts of tensors",
    "flax/automatic_axes": "jax: the type of an array says how it is divided, unless told not to",
    "tf/conversion": "Keras: writes models for other runtimes, ONNX's, OpenVINO's and LiteRT's",
    "flax/compiled_forward": "jax: the call is compiled once per shape, outside the module",
    "flax/compiled_loop": "jax: the loop is compiled; PyTorch's is a loop of Python's in `decode`",
    "tf/compiled_loop": "TensorFlow: the loop is compiled; PyTorch runs one of Python in `decode`",
    "tf/shared_programs": "TensorFlow: keeps each XLA program for ever; jax shares them already",
    "torch/changed_modules": "PyTorch: programs put other modules into a model; trees are checked",
    "torch/given_state": "PyTorch: programs gather a model's values in a state, and hand it over",
    "torch/kernels/float32": "PyTorch: several libraries have matmuls; the usual may be slow",
    "torch/kernels/int4": "PyTorch: the one framework that has a kernel for int4 weights",
    "torch/kernels/int4_layout": "PyTorch: its kernel for int4 has its own layout",
    "flax/kernels/attention": "XLA: would upcast a single row of bfloat16, and what it multiplies",
    "flax/kernels/bits": "XLA: upcasts half precision before a loop, unless it is given bits",
    "flax/kernels/platforms": "XLA: on a CPU some operations are faster in another form",
    "tf/kernels/bits": "XLA: upcasts half precision before a loop, unless it is given bits",
    "tf/kernels/platforms": "TensorFlow: what runs in XLA is compiled for a number of rows",
    "tf/kernels/own_gradient": "TensorFlow: keeps each graph with a custom gradient for ever",
    "flax/other_trees": "jax: parameters are a tree beside the model, and users make others",
    "flax/scanned_blocks": "jax: compiles one block for all; elsewhere blocks are called in turn",
    "flax/stacked_layers": "jax: compiles one block for all; elsewhere blocks are called in turn",
    "flax/seeds": "jax: users have keys, and trace them; elsewhere a seed is a number",
    "flax/parallel": "jax: a tree of shardings; TensorFlow users have tf.distribute around models",
    "torch/parallel": "PyTorch: modules are wrapped; TensorFlow users have tf.distribute",
    "torch/foreign_cache": "PyTorch: PEFT, and users of transformers, bring caches of its classes",
    "torch/packing": "PyTorch: the one framework whose trainers pack sequences into a row",
    "torch/tied_state": "PyTorch: its states name a weight of two modules twice",
    "torch/tool_protocols": "PyTorch: what its tools ask of modules, parameters and tied weights",
    "torch/devices": "PyTorch: modules may be on several devices, and tensors are moved by hand",
}
"""A file that not every backend has -> the reason."""

OWN_ARGUMENTS = {
    "torch": {
        "cache_position": "PyTorch: the one framework whose users know it",
        "device": "PyTorch: every new tensor is put on a device by the code that makes it",
        "devices": "PyTorch: a cache is with its blocks, which may be on several",
        "packed": "PyTorch: the one framework whose trainers pack sequences into a row",
        "eager": "PyTorch: the fused kernel and the plain path are chosen per call",
    },
    "tf": {
        "training": "Keras: hands it to every layer that asks for it",
        "sizes": "tf2onnx: loses the shape of a matmul between two reshapes",
    },
    "flax": {
        "deterministic": "Linen: a module has no training mode",
        "device": "jax: parameters are put on a device when they are made",
    },
}
"""An argument that one framework needs and the others do not -> the reason."""

RENAMED = {
    ("tf", "score_mask"): ("mask", "Keras: fills an argument called mask with its own mask"),
}
"""(backend, argument) -> its name in the others, and the reason."""

WRAPPERS = dict.fromkeys(
    (
        "FlaxGPTJModel",
        "FlaxGPTJForCausalLM",
        "FlaxGPTJForSequenceClassification",
        "FlaxGPTJForQuestionAnswering",
    ),
    "Linen: parameters live outside the module, so the model users hold is a class around it",
)
"""A class whose call is not compared -> the reason."""
