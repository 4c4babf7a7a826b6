"""What differs between the three backends, each with the reason that a framework forces.

``test_layout`` reads this table. An entry that nothing needs any more makes it fail.
"""

from kernel_differences import KERNELS

OVERWRITTEN = "PyTorch: its own initialisation would run, only to be overwritten"
TIED = "one weight in two modules: PyTorch shares it, Linen hands it on, Keras passes the table"
FUSED = "PyTorch: the fused kernel takes a bias in the compute dtype and rows that see something"
FUSED_PROBABILITIES = "PyTorch: the fused kernel returns no probabilities"
INT4_LAYOUT = "PyTorch: the one framework with int4, whose kernel has its own layout"
FUSED_LOSS = (
    "TensorFlow: by parts its graphs would hold more, not less; a layer's weight is elsewhere"
)
UNCOMPILED = "PyTorch: the loop is not compiled; the others run compiled segments of it"
FEW_COMPILATIONS = "jax: the prefill is compiled too, so prompts are padded to few lengths"
SPLIT_LOSS = "`head_loss`: PyTorch has an autograd.Function, jax a custom_jvp, TensorFlow neither"
GRAPH_SHAPE = "TensorFlow: in a graph a length is a tensor, which is made once"
KERAS = "Keras: what fit, predict and saving call"
KERAS_WEIGHTS = "Keras: variables are made by the layer, from the value that is meant for them"
FIXED_SHAPE = "Keras: a variable cannot change its shape, so its layer makes another one"
FIT = "Keras: what fit takes the loss from, in the form in which it hands over targets"
REMAT = "Keras: a scope around the making of a layer, and none for an existing model"
CHECKED = "Linen: inputs are checked before the module runs, outside of tracing"
DELIVERED = "Linen: the module and the class around it share a function"
STATES = "Adam's state: PyTorch has a dict per parameter, Keras lists of variables, Optax a tree"
REGISTRY = "every framework's registry of trees asks for another form"
IN_PLACE = "PyTorch: gradients add up in the parameters; in the others functions return them"
TREE = "Linen: parameters are a tree beside the module, and a call may bring its own"
EXCEPTIONS = {
    **KERNELS,
    "layers": {
        "Embedding.reset_parameters": OVERWRITTEN,
        "Linear.reset_parameters": OVERWRITTEN,
        "Linear.is_plain": FUSED_LOSS,
        "Linear.multiply": "Linen: one method declares parameters, and hands them on",
        "Linear.multiply_tied": "TensorFlow: a float32 kernel lies (in, out), a table does not",
        "Linear.forward": TIED,
        "Embedding.forward": "PyTorch: the framework's own layer does it",
        "LayerNorm.forward": "PyTorch: the framework's own layer does it",
        "Layer": "Keras: sublayers need explicit names, dtypes and variables",
        "Layer.variable": KERAS_WEIGHTS,
        "Layer.read": KERAS_WEIGHTS,
        "Layer.rebuild": FIXED_SHAPE,
        "Embedding.resize": FIXED_SHAPE,
        "Linear.resize": FIXED_SHAPE,
        "Dropout": "Keras: its own is recorded, like every layer here",
        "_row": "jax: vectors get the axes of a tensor explicitly, as users may forbid promotion",
        "at_least_float32": "PyTorch: the one framework whose models may be made float64",
    },
    "quantized_linear": {
        "QuantizedLinear.multiply": "Linen: one method declares parameters, and hands them on",
        "QuantizedLinear.is_plain": FUSED_LOSS,
        "QuantizedLinear._apply": "PyTorch: a cast of the module would reach the scales",
        "QuantizedLinear._save_to_state_dict": INT4_LAYOUT,
        "QuantizedLinear._load_from_state_dict": INT4_LAYOUT,
        "QuantizedLinear._in_file_layout": INT4_LAYOUT,
    },
    "rotary": {
        "Rotary.fill": "PyTorch: the table is a buffer, made again after a move or a cast",
        "Rotary._apply": "PyTorch: the table is a buffer, made again after a move or a cast",
    },
    "attention": {
        "Attention.forward": FUSED_PROBABILITIES,
        "Attention.attend": "PyTorch: the fused kernel; XLA fuses the plain path",
        "Attention.attend_eagerly": FUSED,
    },
    "mlp": {
        "MLP.activation": "jax: its activations would round inside, the others' compute in float32",
    },
    "block": {
        "Block.forward": FUSED_PROBABILITIES,
        "Blocks": "Linen: a list of modules gives them no names of their own",
    },
    "masks": {
        "Mask": FUSED,
        "attention_bias": FUSED,
    },
    "cache": {
        "KVCache.capacity": GRAPH_SHAPE,
        "_copy_into": "jax: under tracing the length is a tracer, so a whole buffer is copied",
        "KVCache.known_length": "jax: under tracing the length is a tracer",
        "in_own_graph": "TensorFlow: a graph cannot tell who compiles it, and who holds its caches",
        "has_fixed_shapes": "TensorFlow: a graph cannot tell who compiles it",
        "KVCache.__tf_flatten__": "TensorFlow: how a function takes a cache apart",
        "KVCache.__tf_unflatten__": "TensorFlow: how a function puts a cache together",
        "_write": "PyTorch: writes into a cache in place",
        "_write_slice": "XLA: on a CPU one token is faster written in another form",
        "_scatter": "XLA: on a CPU one token is faster written in another form",
    },
    "pretrained": {
        "Pretrained.device": "jax: each array has its own device, or several",
        "Pretrained.device_map": "PyTorch: modules may be on several devices",
        "Pretrained.train": "PyTorch: training is a mode of the module",
        "Pretrained.dtype": "Keras: layers already have a dtype",
        "Pretrained.gradient_checkpointing_enable": REMAT,
        "Pretrained.gradient_checkpointing_disable": REMAT,
        "Pretrained.forward": "Keras: one argument may hold all inputs",
        "Pretrained.get_base": TREE,
        "Pretrained.get_input_embeddings": TREE,
        "Pretrained.get_output_embeddings": TREE,
        "Pretrained.tie_weights": TIED,
        "Pretrained.get_config": KERAS,
        "Pretrained.from_config": "Keras: it makes models from dictionaries under this name, too",
        "Pretrained.predict_step": KERAS,
        "Pretrained.params": TREE,
        "Pretrained.init_weights": TREE,
        "Pretrained.to_bf16": TREE,
        "Pretrained.to_fp16": TREE,
        "Pretrained.to_fp32": TREE,
        "Pretrained.from_pretrained": TREE,
        "Pretrained.save_pretrained": TREE,
        "Pretrained.save_lora": TREE,
        "Pretrained.generate": TREE,
        "Pretrained.resolve": TREE,
        "Pretrained.bind": TREE,
        "Pretrained.run": TREE,
        "Pretrained.check": CHECKED,
        "as_tensors": CHECKED,
        "Pretrained._as_tensors": "PyTorch: lists go to the model's device; Keras: `call_inputs`",
        "deliver": DELIVERED,
        "_cast": TREE,
        "_drops": "Linen: dropout needs a key, which the caller has",
    },
    "model": {
        "GPTJModel.mask": GRAPH_SHAPE,
        "GPTJModel.rotation": GRAPH_SHAPE,
        "GPTJModel.check": CHECKED,
        "GPTJModel.close_cache": "Linen: what a program was given is put down outside of it",
        "GPTJModel.runner": "PyTorch: gradient checkpointing is chosen for every call, by layer",
        "GPTJModel.compute_loss": FIT,
        "GPTJModel.compute_metrics": KERAS,
        "GPTJModel.deliver": DELIVERED,
        "length_of": "PyTorch: a length is a number; a graph's may be a tensor",
        "_known": "TensorFlow: in a graph a length may be a tensor",
        "_known_attention": FUSED,
    },
    "causal_lm": {
        "GPTJForCausalLM.loss": "Linen: what a layer holds is looked up by its caller",
        "GPTJForCausalLM.tied_weights": TIED,
        "GPTJForCausalLM.check_targets": FIT,
        "GPTJForCausalLM.compute_loss": FIT,
        "GPTJForCausalLM.compute_metrics": KERAS,
        "copies_input": FIT,
    },
    "sequence_classification": {
        "GPTJForSequenceClassification.check_targets": FIT,
        "GPTJForSequenceClassification.compute_loss": FIT,
        "GPTJForSequenceClassification.compute_metrics": KERAS,
    },
    "question_answering": {
        "GPTJForQuestionAnswering.compute_loss": FIT,
        "GPTJForQuestionAnswering.compute_metrics": KERAS,
        "starts_and_ends": FIT,
    },
    "losses": {
        "head_loss": FUSED_LOSS,
        "next_token_loss": "Keras: fit's targets come already shifted",
        "_losses": "jax: has no cross-entropy; in the others it is one call",
        "_chunk_size": SPLIT_LOSS,
        "_known_logits": SPLIT_LOSS,
        "_known_logits_jvp": SPLIT_LOSS,
        "_HeadLoss": SPLIT_LOSS,
        "_HeadLoss.forward": SPLIT_LOSS,
        "_HeadLoss.setup_context": SPLIT_LOSS,
        "_HeadLoss.backward": SPLIT_LOSS,
        "_gradients_of_positions": SPLIT_LOSS,
        "_plain_gradients": SPLIT_LOSS,
        "_add": SPLIT_LOSS,
    },
    "params": {
        "initialize": "Linen: parameters are a tree, not attributes of a model",
        "load_params": "Linen: parameters are a tree, not attributes of a model",
        "dump_params": "Linen: parameters are a tree, not attributes of a model",
        "check_tree": "Linen: a caller may bring a tree of parameters",
        "native_order": "jax: shards are chosen from a shape, before there is an array to turn",
        "from_numpy": "jax: has no 64-bit integers, and moves arrays to the parameters' device",
        "check_values": "PyTorch: has a device without values",
        "input_tensor": "PyTorch: the model has the device; jax: moves arrays when it computes",
        "loading": KERAS_WEIGHTS,
        "initializer": KERAS_WEIGHTS,
        "variables": KERAS_WEIGHTS,
        "is_turned": "TensorFlow: such a weight is (out, in): a block lies together",
        "lies_turned": "TensorFlow: such a weight is (out, in): a block lies together",
        "set_trainable": "Keras: whether a variable is trained is a flag of the variable",
        "_replace": "PyTorch: parameters are attributes of modules",
        "_aligned": "XLA: takes over aligned memory only, and copies any other",
    },
    "sampling": {
        "seed_words": "TensorFlow: the words of a seed are a constant of the graph",
        "lowest_best": "TensorFlow: argmax leaves open which of equal values it takes",
        "as_arrays": "jax: a plan's numbers are traced, so that one compilation serves all",
    },
    "decode": {
        "DecodeState": UNCOMPILED,
        "DecodeState.without_finished_sequences": UNCOMPILED,
        "_run_steps": UNCOMPILED,
        "_advance": UNCOMPILED,
        "_run_segments": UNCOMPILED,
        "_Loop": UNCOMPILED,
        "_Loop.start": UNCOMPILED,
        "_Loop.resume": UNCOMPILED,
        "_resized_state": UNCOMPILED,
        "_prefill": "TensorFlow: the prefill runs eagerly; JAX compiles it with the loop",
        "_Loop.of": FEW_COMPILATIONS,
        "_Loop.segments": FEW_COMPILATIONS,
        "_pad_prompts": FEW_COMPILATIONS,
        "_is_traced": "jax: inside a transformation no loop can look at values",
        "_with_untied_head": "jax: XLA reads a kernel faster than the word table",
    },
    "capture": {
        "Capturable": "Keras: layers have no hooks",
        "Capturable.forward": "Keras: layers have no hooks",
        "find_layer": "Keras: layers are not looked up by a dotted name",
    },
    "lora": {
        "forget_compiled": "Keras: graphs are kept by the model, and know it as it was",
        "collections": "Linen: adapters are a collection of their own",
        "check_adapters": "Linen: a caller may bring a tree of parameters",
        "has_dropout": "Linen: dropout needs a key, which the caller has",
        "_adapted": "Linen: adapters are leaves of a tree, found by path",
        "_path": "Linen: adapters are leaves of a tree, found by path",
        "_without_adapters": "Linen: adapters are leaves of a tree, found by path",
        "_attach": "Keras: a built layer takes no other variables until it is unlocked",
    },
    "optimizer": {
        "AdamW": "Keras: its own adds epsilon elsewhere than PyTorch and Optax do",
        "AdamW._all_reduce_sum_gradients": "TensorFlow: the graph of its sum is never freed",
        "AdamW.update_step": "Keras: its own adds epsilon elsewhere than PyTorch and Optax do",
        "LeafInfo": STATES,
        "_trained": STATES,
        "_check_kind": STATES,
        "_parameters": STATES,
        "_steps": STATES,
        "_handle": STATES,
        "_state": STATES,
        "_set_constants": STATES,
        "_adam": STATES,
        "_variables": STATES,
        "_places": STATES,
        "_moments": STATES,
        "_check_leaves": STATES,
        "_numbers": STATES,
        "_handles": STATES,
        "_float32": STATES,
        "_tree_like": STATES,
        "_like": STATES,
        "_adams": STATES,
        "_others": STATES,
        "_is_adam": STATES,
        "_leaves": STATES,
        "_path": STATES,
        "_last": STATES,
    },
    "pytrees": {
        "_flatten_output": REGISTRY,
        "_flatten_cache": REGISTRY,
        "_unflatten_cache": REGISTRY,
    },
    "trainer": {
        "Trainer._gradients": IN_PLACE,
        "Trainer._loss_and_gradients": IN_PLACE,
        "Trainer._update": IN_PLACE,
        "Trainer._with_gradients": IN_PLACE,
        "Trainer._autocast": "PyTorch: half precision is a context; in the others the model has it",
        "Trainer._seed": "Keras: random numbers are the state of each layer",
        "Trainer._outputs": "PyTorch: runs eagerly; in the others this is compiled",
        "Trainer._split": TREE,
        "_tensors": "jax: compiled functions take NumPy arrays",
        "_sum": "jax: its memory is given away, and so it is compiled",
        "_are_matrices": "Optax: takes the decayed weights as a tree",
    },
    "backend": {
        "evaluating": "PyTorch: training is a mode of the module",
        "infer_device": "PyTorch: users name the device; it is public under this name",
        "_places": "PyTorch: modules may be on several devices",
        "_by_parameter": "PyTorch: modules may be on several devices",
        "_device": "PyTorch: what finds a device is in `devices`, beside what spreads modules",
        "_place": "jax: parameters may have a sharding for every path",
    },
}
"""File -> name that differs between the backends -> the reason."""
