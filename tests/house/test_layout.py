"""The three backends are built alike: the same files, classes, methods and argument names.

Read from the source, so that no framework is needed. ``TF``, ``Flax`` and ``Torch`` in front of a
class are left out; ``forward``, ``call`` and ``__call__`` are one name, and a Linen ``...Module``
is compared with the model of the others. How an object is made (``__init__``, ``setup``, ``build``)
is each framework's own, and so is what starts with an underscore. Every other difference stands in
one of the tables below with its reason.
"""

import ast
import re

import pytest

from paths import SOURCE

pytestmark = pytest.mark.frameworks

BACKENDS = SOURCE / "backends"
NAMES = ("torch", "tf", "flax")
FILES = (
    "layers",
    "masks",
    "cache",
    "model",
    "causal_lm",
    "sequence_classification",
    "question_answering",
    "heads",
    "losses",
    "params",
    "sampling",
    "decode",
    "capture",
    "gradients",
    "lora",
    "optimizer",
    "kernels/int8",
    "kernels/int8_limbs",
    "backend",
)
FORWARD = {"call": "forward", "__call__": "forward"}
MAKING = {"setup", "build"}

EXTRA_FILES = {
    "tf/call_inputs": "Keras: one argument may be a tensor, a list or a dict of all inputs",
    "tf/keras_fit": "Keras: a training loop of its own, which runs in a graph; others write theirs",
    "tf/saved_model": "TensorFlow: a SavedModel has signatures, which return dicts of tensors",
    "flax/compiled_forward": "jax: the call is compiled once per shape, outside the module",
    "flax/compiled_loop": "jax: the loop is compiled; PyTorch's is a loop of Python's in `decode`",
    "tf/compiled_loop": "TensorFlow: the loop is compiled; PyTorch runs one of Python in `decode`",
    "torch/kernels/float32": "PyTorch: several libraries have matmuls; the usual may be slow",
    "torch/kernels/int4": "PyTorch: the one framework that has a kernel for int4 weights",
    "torch/kernels/int4_layout": "PyTorch: its kernel for int4 has a layout of its own",
    "flax/kernels/platforms": "XLA: on a CPU some operations are faster in another form",
    "flax/parallel": "jax: a tree of shardings; TensorFlow users have tf.distribute around models",
    "torch/parallel": "PyTorch: modules are wrapped; TensorFlow users have tf.distribute",
    "flax/pretrained": "Linen: parameters live outside the module; a class around it has the call",
    "torch/devices": "PyTorch: modules may be on several devices, and tensors are moved by hand",
    "torch/placement": "PyTorch: modules may be on several devices, and somebody has to choose",
}
"""A file that not every backend has -> the reason."""

OWN_ARGUMENTS = {
    "torch": {
        "cache_position": "PyTorch: the one framework whose users know it",
        "device": "PyTorch: every new tensor is put on a device by whoever makes it",
        "devices": "PyTorch: a cache is with its blocks, which may be on several",
        "eager": "PyTorch: the fused kernel and the plain path are chosen per call",
    },
    "tf": {
        "training": "Keras: hands it to every layer that asks for it",
    },
    "flax": {
        "deterministic": "Linen: a module has no training mode of its own",
        "device": "jax: parameters are put on a device when they are made",
    },
}
"""An argument that one framework needs and the others do not -> the reason."""

RENAMED = {
    ("tf", "score_mask"): ("mask", "Keras: fills an argument called mask with one of its own"),
}
"""(backend, argument) -> its name in the others, and the reason."""

WRAPPERS = dict.fromkeys(
    (
        "FlaxPretrained",
        "FlaxGPTJModel",
        "FlaxGPTJForCausalLM",
        "FlaxGPTJForSequenceClassification",
        "FlaxGPTJForQuestionAnswering",
    ),
    "Linen: parameters live outside the module, so the model users hold is a class around it",
)
"""A class that is not compared -> the reason."""

OVERWRITTEN = "PyTorch: its own initialisation would run, only to be overwritten"
TIED = "one weight in two modules: PyTorch shares it, Linen hands it on, Keras passes the table"
FUSED = "PyTorch: the fused kernel takes a bias in the compute dtype and rows that see something"
FUSED_LOSS = (
    "TensorFlow: by parts its graphs would hold more, not less; a layer's weight is elsewhere"
)
ROWS_LEAVE = "PyTorch: rows leave between any two steps; compiled loops have parts for it"
GRAPH_SHAPE = "TensorFlow: in a graph a length is a tensor, which is made once"
COMPILED_STEP = "TensorFlow: the driver's step is compiled; Python would take most of its time"
KERAS = "Keras: what fit, predict and saving call"
KERAS_WEIGHTS = "Keras: variables are made by the layer, from the value that is meant for them"
FIXED_SHAPE = "Keras: a variable cannot change its shape, so its layer makes another one"
FIT = "Keras: what fit takes the loss from, in the form in which it hands over targets"
BEFORE = "Linen: labels are checked before the module runs"
REMAT = "Keras: a scope of its own around the making of a layer, and none for a model that is"
ACCESSORS = "Linen: a module holds no weights; the class around it has them"
EXCEPTIONS = {
    "layers": {
        "Embedding.reset_parameters": OVERWRITTEN,
        "Linear.reset_parameters": OVERWRITTEN,
        "Linear.is_plain": FUSED_LOSS,
        "Linear.multiply": "PyTorch: `linear` chooses by itself, and adds the bias, too",
        "Linear.multiply_tied": "TensorFlow: a float32 kernel lies (in, out), a table does not",
        "Rotary.fill": "PyTorch: the table is a buffer, made again after a move or a cast",
        "Embedding.forward": "PyTorch: the framework's own layer does it",
        "LayerNorm.forward": "PyTorch: the framework's own layer does it",
        "Linear.forward": TIED,
        "Layer": "Keras: sublayers need explicit names, dtypes and variables",
        "Layer.variable": KERAS_WEIGHTS,
        "Layer.read": KERAS_WEIGHTS,
        "Layer.rebuild": FIXED_SHAPE,
        "Embedding.resize": FIXED_SHAPE,
        "Linear.resize": FIXED_SHAPE,
        "Dropout": "Keras: its own is recorded, like every layer here",
        "Attention.attend": "PyTorch: the fused kernel; XLA fuses the plain path by itself",
        "MLP.activation": "jax: its activations would round inside, the others' compute in float32",
        "Attention.attend_eagerly": FUSED,
        "Blocks": "Linen: a list of modules gives them no names of their own",
    },
    "masks": {
        "Mask": FUSED,
        "attention_bias": FUSED,
        "additive_mask": FUSED,
    },
    "cache": {
        "KVCache.known_length": "jax: under tracing the length is a tracer",
        "in_own_graph": "TensorFlow: a graph cannot tell who compiles it, and who holds its caches",
        "has_fixed_shapes": "TensorFlow: a graph cannot tell who compiles it",
    },
    "model": {
        "Pretrained": ACCESSORS,
        "Pretrained.device": ACCESSORS,
        "Pretrained.device_map": "PyTorch: modules may be on several devices",
        "Pretrained.train": "PyTorch: training is a mode of the module",
        "Pretrained.dtype": "Keras: layers have a dtype by themselves",
        "Pretrained.init_cache": ACCESSORS,
        "Pretrained.gradient_checkpointing_enable": REMAT,
        "Pretrained.gradient_checkpointing_disable": REMAT,
        "Pretrained.forward": "Keras: one argument may hold all inputs",
        "Pretrained.get_base": ACCESSORS,
        "Pretrained.get_input_embeddings": ACCESSORS,
        "Pretrained.set_input_embeddings": ACCESSORS,
        "Pretrained.get_output_embeddings": ACCESSORS,
        "Pretrained.tie_weights": TIED,
        "Pretrained.get_config": KERAS,
        "Pretrained.from_config": KERAS,
        "Pretrained.predict_step": KERAS,
        "GPTJModel.mask": GRAPH_SHAPE,
        "GPTJModel.rotation": GRAPH_SHAPE,
        "GPTJModel.check": "Linen: inputs are checked before the module runs, outside of tracing",
        "GPTJModel.compute_loss": FIT,
        "GPTJModel.compute_metrics": KERAS,
        "GPTJModel.deliver": "Linen: the module and the class around it share a function",
    },
    "causal_lm": {
        "GPTJForCausalLM.loss": "Linen: what a layer holds is looked up by whoever has the layer",
        "GPTJForCausalLM.tied_weights": TIED,
        "GPTJForCausalLM.check_labels": BEFORE,
        "GPTJForCausalLM.check_targets": FIT,
        "GPTJForCausalLM.compute_loss": FIT,
        "GPTJForCausalLM.compute_metrics": KERAS,
        "copies_input": FIT,
    },
    "sequence_classification": {
        "GPTJForSequenceClassification.check_labels": BEFORE,
        "GPTJForSequenceClassification.check_targets": FIT,
        "GPTJForSequenceClassification.compute_loss": FIT,
        "GPTJForSequenceClassification.compute_metrics": KERAS,
    },
    "question_answering": {
        "GPTJForQuestionAnswering.check_labels": BEFORE,
        "GPTJForQuestionAnswering.compute_loss": FIT,
        "GPTJForQuestionAnswering.compute_metrics": KERAS,
        "starts_and_ends": FIT,
    },
    "losses": {
        "head_loss": FUSED_LOSS,
        "next_token_loss": "Keras: fit's targets come already shifted",
    },
    "params": {
        "initialize": "Linen: parameters are a tree, not attributes of a model",
        "load_params": "Linen: parameters are a tree, not attributes of a model",
        "dump_params": "Linen: parameters are a tree, not attributes of a model",
        "check_tree": "Linen: a caller may bring a tree of parameters",
        "native_tensor": "TensorFlow: takes over aligned memory only, and copies any other",
        "native_order": "jax: shards are chosen from a shape, before there is an array to turn",
        "from_numpy": "jax: has no 64-bit integers, and moves arrays to the parameters by itself",
        "loading": KERAS_WEIGHTS,
        "initializer": KERAS_WEIGHTS,
        "variables": KERAS_WEIGHTS,
        "is_turned": "TensorFlow: a narrow kernel is (out, in), so that a block lies together",
        "lies_turned": "TensorFlow: a narrow kernel is (out, in), so that a block lies together",
        "set_trainable": "Keras: whether a variable is trained is a flag of its own",
    },
    "sampling": {
        "seed_words": "TensorFlow: the words of a seed are a constant of the graph",
        "lowest_best": "TensorFlow: argmax leaves open which of equal values it takes",
        "as_arrays": "jax: a plan's numbers are traced, so that one compilation serves all",
    },
    "decode": {
        "DecodeState": ROWS_LEAVE,
        "DecodeState.without_finished_sequences": ROWS_LEAVE,
        "is_decode_step": COMPILED_STEP,
        "step": COMPILED_STEP,
    },
    "capture": {
        "Capturable": "Keras: layers have no hooks",
        "Capturable.forward": "Keras: layers have no hooks",
        "find_layer": "Keras: layers are not looked up by a dotted name",
    },
    "kernels/int8": {
        "packed": "PyTorch: has a private kernel",
        "has_packed": "PyTorch: has a private kernel",
        "by_slices": "TensorFlow: XLA multiplies few tokens by blocks, its own product many",
    },
    "kernels/int8_limbs": {"has_kernel": "PyTorch: has a private kernel"},
    "lora": {
        "forget_compiled": "Keras: graphs are kept by the model, and know it as it was",
        "collections": "Linen: adapters are a collection of their own",
        "check_adapters": "Linen: a caller may bring a tree of parameters",
        "has_dropout": "Linen: dropout needs a key, which the caller has",
    },
    "optimizer": {
        "AdamW": "Keras: its own adds epsilon elsewhere than PyTorch and Optax do",
        "AdamW.update_step": "Keras: its own adds epsilon elsewhere than PyTorch and Optax do",
        "LeafInfo": "jax: a state is a tree, of which the paths say what is where",
    },
    "backend": {
        "evaluating": "PyTorch: training is a mode of the module",
        "infer_device": "PyTorch: users name the device; it is public under this name",
    },
}
"""File -> name that differs between the backends -> the reason."""


def definitions(backend, file):
    """Return the argument names of every public function, class and method of a file."""
    path = BACKENDS / backend / f"{file}.py"
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node, backend)
        elif isinstance(node, ast.ClassDef):
            if node.name in WRAPPERS:
                continue
            name = class_name(node.name)
            found[name] = ()
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            for method in methods:
                inside = FORWARD.get(method.name, method.name)
                found[f"{name}.{inside}"] = arguments(method, backend)
    return {name: args for name, args in found.items() if is_compared(name)}


def class_name(name):
    """Return a class's name without the framework's: ``FlaxGPTJModule`` -> ``GPTJModel``."""
    bare = re.sub(r"^(TF|Flax|Torch)(?=[A-Z])", "", name)
    return "GPTJModel" if bare == "GPTJModule" else bare.removesuffix("Module")


def is_compared(name):
    last = name.rpartition(".")[2]
    return not last.startswith("_") and not name.startswith("_") and last not in MAKING


def arguments(function, backend):
    """Return the names of a function's arguments, without those of one framework alone, sorted."""
    given = function.args
    stars = [star for star in (given.vararg, given.kwarg) if star]
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *stars]
    names = [RENAMED.get((backend, argument.arg), (argument.arg,))[0] for argument in every]
    dropped = {"self", "cls", *OWN_ARGUMENTS[backend]}
    return tuple(sorted(name for name in names if name not in dropped))


def differences(file):
    """Return the names of a file that are not the same everywhere, with what each backend has."""
    found = {backend: definitions(backend, file) for backend in NAMES}
    names = dict.fromkeys(name for backend in NAMES for name in found[backend])
    return {
        name: {backend: found[backend].get(name) for backend in NAMES}
        for name in names
        if len({found[backend].get(name) for backend in NAMES}) > 1
    }


def stems(folder):
    """Return the files of a backend without their suffix: ``kernels/int8``."""
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_in_every_backend(file):
    missing = [name for name in NAMES if not (BACKENDS / name / f"{file}.py").exists()]
    assert missing == []


def test_a_file_of_one_backend_alone_has_a_reason():
    found = {name: stems(BACKENDS / name) for name in NAMES}
    everywhere = set.intersection(*found.values())
    assert {f"{n}/{file}" for n in NAMES for file in found[n] - everywhere} == {*EXTRA_FILES}


@pytest.mark.parametrize("file", FILES)
def test_a_difference_between_the_backends_has_a_reason(file):
    excepted = EXCEPTIONS.get(file, {})
    assert {name: has for name, has in differences(file).items() if name not in excepted} == {}


@pytest.mark.parametrize("file", EXCEPTIONS)
def test_an_exception_is_still_needed(file):
    assert EXCEPTIONS[file].keys() - differences(file) == set()


@pytest.mark.parametrize("file", FILES)
def test_what_is_shared_stands_in_the_same_order(file):
    orders = [definitions(backend, file) for backend in NAMES]
    shared = set.intersection(*(set(order) for order in orders))
    first, *others = ([name for name in order if name in shared] for order in orders)
    assert all(other == first for other in others)
