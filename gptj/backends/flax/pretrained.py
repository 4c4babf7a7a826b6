"""What the Flax models share: a Linen module, its configuration and its parameters."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Unpack, overload

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax import compiled_forward, lora
from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache, init_cache
from gptj.backends.flax.other_trees import OtherTrees
from gptj.backends.flax.params import Params
from gptj.backends.flax.seeds import as_seed, check_static
from gptj.backends.flax.stacked_layers import is_stacked, unstack_layers
from gptj.contract.backend import FrameworkBackend
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.generation.keywords import GenerateOptions
from gptj.model.pretrained import Pretrained
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.outputs import ModelOutput
from gptj.spec.quantization import check_trainable
from gptj.spec.resize import check_word_table
from gptj.spec.types import TensorLike


class FlaxPretrained(OtherTrees, Pretrained):
    """The base of every Flax model: the class around a Linen module.

    `dtype` is that of the computation; the parameters start in `param_dtype`. The specification
    draws new ones, so a `seed` gives the same model on every backend. With ``_do_init=False`` there
    are none, and every call takes `params`. `scan_layers` stacks those of all blocks: see
    ``stacked_layers``. `input_shape` is accepted for old code and ignored.
    """

    backend: ClassVar[FrameworkBackend["FlaxPretrained", Array, KVCache]]
    backend_name = "flax"
    module_class: ClassVar[type[nn.Module]]
    __call__: Callable[..., Any]  # every class has its own

    def __init__(
        self,
        config: GPTJConfig,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: DTypeLike = jnp.float32,
        _do_init: bool = True,
        *,
        param_dtype: DTypeLike = jnp.float32,
        scan_layers: bool = False,
    ) -> None:
        find_head(self.head).check_config(config.num_labels)  # without _do_init nothing else would
        self.config = config
        self.dtype, self.param_dtype = jnp.dtype(dtype), jnp.dtype(param_dtype)
        self.module = self.module_class(config, dtype=self.dtype, param_dtype=self.param_dtype)
        self.captured: dict[str, Array | None] = {}  # by canonical name; `capture` fills it
        self._params: Params | None = None
        self.unmerged: Params | None = None  # the tree from before a merge
        if _do_init:
            self._params = parameters.initialize(
                config, self.head, seed, self.param_dtype, stacked=scan_layers
            )
        elif scan_layers:
            raise ArgumentError("Without parameters scan_layers=True has no effect: leave it out.")

    @property
    def params(self) -> Params:
        """The tree of parameters.

        Raises:
            ArgumentError: if the model was made without.
        """
        if self._params is None:
            raise ArgumentError(
                "This model holds no parameters, as it was made with _do_init=False: pass params= "
                "to the call, or set model.params."
            )
        return self._params

    @params.setter
    def params(self, tree: Params) -> None:
        base = {name: part for name, part in tree.items() if name != lora.LORA}
        parameters.check_tree(self.config, self.head, base)
        lora.check_adapters(self.config, self.head, tree.get(lora.LORA, {}))
        self._params = tree

    @classmethod
    def from_config(cls, config: GPTJConfig, **options: Any) -> Self:
        """Return a model with new parameters: float32 unless `param_dtype` says otherwise."""
        return super().from_config(config, **{"param_dtype": "float32", **options})

    @classmethod
    def from_pretrained(cls, name: str | Path, *, _do_init: bool = True, **options: Any) -> Any:
        """Return a model with the weights of a preset, a folder, a file or a hub id.

        Takes what `load_model` takes. `dtype` is that of the computation; `param_dtype` is the
        file's by default. With ``_do_init=False``: a model without parameters, and the parameters.
        """
        model = super().from_pretrained(name, **{"param_dtype": "auto", **options})
        return model if _do_init else (model.bind(None), model.params)

    def save_pretrained(
        self,
        folder: str | Path,
        params: Params | None = None,
        *,
        max_shard_size: int | str = "5GB",
        format: str = "safetensors",
    ) -> None:
        """Write `params`, or the model's own; else as in `Pretrained.save_pretrained`."""
        save = super(FlaxPretrained, self.bind(self.resolve(params))).save_pretrained
        save(folder, max_shard_size=max_shard_size, format=format)

    def save_lora(
        self, folder: str | Path, params: Params | None = None, *, base_model: str | None = None
    ) -> None:
        """Write the adapter of `params`, or the model's own; else as in `Adapters.save_lora`."""
        bound = self.bind(self.resolve(params))
        super(FlaxPretrained, bound).save_lora(folder, base_model=base_model)

    @overload
    def generate(
        self,
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        params: Params | None = None,
        prng_key: Array | None = None,
        return_dict_in_generate: Literal[False] = False,
        **options: Unpack[GenerateOptions],
    ) -> Array: ...
    @overload
    def generate(
        self,
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        params: Params | None = None,
        prng_key: Array | None = None,
        return_dict_in_generate: Literal[True],
        **options: Unpack[GenerateOptions],
    ) -> ModelOutput: ...
    def generate(
        self,
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        params: Params | None = None,
        prng_key: Array | None = None,
        **options: Any,
    ) -> Any:
        """Continue prompts with `params`, or the model's own; else as in `Pretrained.generate`.

        Inside the caller's own ``jax.jit`` the result has its full width, T + max_new_tokens, and
        what is drawn is new in every call if `seed` or `prng_key` is an argument of that function.

        Args:
            prng_key: in the place of `seed`: ``jax.random.key(n)`` draws the same as ``seed=n``.

        Raises:
            ArgumentError: for another `prng_key`, and for an option besides it that is traced.
        """
        check_static(options)
        seed = as_seed(options.get("seed"), prng_key)
        options |= {} if seed is None else {"seed": seed}
        bound = self.bind(self.resolve(params))
        return super(FlaxPretrained, bound).generate(input_ids, attention_mask, **options)

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that keeps its size."""
        return init_cache(self.config, batch, max_length, self.dtype)

    def get_base(self) -> Params:
        """Return the parameters of the model without its head."""
        return self.params if self.head == "base" else self.params["transformer"]

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, object] | None = None,
        every_n_layers: int = 1,
    ) -> None:
        """Compute the inside of each block twice in training, to save memory: a third slower.

        This is ``jax.checkpoint`` around every block, which XLA undoes on a CPU unless the layers
        are stacked. Source: Chen et al., arXiv:1604.06174.

        Args:
            gradient_checkpointing_kwargs: accepted for old code and ignored.
            every_n_layers: 1 alone, as every block is computed twice.
        """
        if every_n_layers != 1:
            raise UnsupportedFeature("Flax computes every block twice: leave out every_n_layers.")
        self.module = self.module.clone(gradient_checkpointing=True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep what the gradients need, as usual."""
        self.module = self.module.clone(gradient_checkpointing=False)

    def get_input_embeddings(self) -> Array:
        """Return the word table, (V, E)."""
        return self.get_base()["wte"]["embedding"]

    def set_input_embeddings(self, value: Array) -> None:
        """Replace the word table by another one of the same shape (V, E); the dtype stays.

        Raises:
            InputError: for another shape.
        """
        check_word_table(self.config, tuple(value.shape))
        old = self.get_input_embeddings()
        new = jax.device_put(jnp.asarray(value).astype(old.dtype), old.sharding)
        base = {**self.get_base(), "wte": {"embedding": new}}
        self.params = base if self.head == "base" else {**self.params, "transformer": base}

    def get_output_embeddings(self) -> Params | None:
        """Return the parameters of the language-model head, None for other heads."""
        return self.params.get("lm_head")

    def resolve(self, params: Params | None) -> Params:
        """Return the parameters to compute with."""
        return self.params if params is None else params

    def bind(self, params: Params | None) -> Self:
        """Return the same model with other parameters; nothing is copied."""
        bound = copy.copy(self)
        bound._params = params
        return bound

    def check(self, cache: KVCache | None, **inputs: Array | None) -> None:
        """Refuse inputs that do not fit, before any kernel runs."""
        check_cache(cache, KVCache, inputs)
        past_length = 0 if cache is None else cache.known_length
        capacity = cache.capacity if cache is not None and cache.preallocated else None
        known = {
            name: None if tensor is None else parameters.sizes_known(tensor)
            for name, tensor in inputs.items()
        }
        check_inputs(
            self.config, known, parameters.concrete, past_length=past_length, capacity=capacity
        )

    def run(
        self,
        params: Params | None,
        cache: KVCache | None,
        inputs: dict[str, Array | None],
        options: dict[str, Any],
        dropout_rng: Array | None,
        return_dict: bool | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Run the compiled module on checked inputs."""
        params = self.resolve(params)
        if self.captured and is_stacked(params):  # a scan has one module for all layers
            params = unstack_layers(params)
        rates = self.config.resid_pdrop, self.config.embd_pdrop, self.config.attn_pdrop
        drops = any(rates) or lora.has_dropout(params)
        if not options["deterministic"] and dropout_rng is None and drops:
            raise ArgumentError("train=True needs dropout_rng, a key such as jax.random.key(0).")
        if not options["deterministic"] and lora.LORA not in params:
            check_trainable(self.config, "train=True")
        given = {name: x for name, x in inputs.items() if x is not None}
        length = given["input_ids" if "input_ids" in given else "inputs_embeds"].shape[1]
        roomy = None
        if cache is not None:
            roomy = compiled_forward.for_program(cache, length, self.config.n_positions)
            given = compiled_forward.pad_mask_to_capacity(given, cache, length, roomy.capacity)
        program = compiled_forward.Program.of(self.module, options, tuple(self.captured))
        output, intermediates = compiled_forward.run(program, params, roomy, given, dropout_rng)
        for name in self.captured:
            self.captured[name] = compiled_forward.find(intermediates, name)
        if cache is not None and output.attentions is not None:
            output["attentions"] = compiled_forward.cut(output.attentions, cache, length)
        if output.past_key_values is not None:
            output["past_key_values"] = compiled_forward.after(
                cache, output.past_key_values, length, given.get("attention_mask")
            )
        return deliver(self.config, output, return_dict)


def as_tensors(**inputs: TensorLike | None) -> dict[str, Array | None]:
    """Return inputs as JAX arrays; missing ones stay None."""
    return {
        name: None if value is None else parameters.input_tensor(value, name)
        for name, value in inputs.items()
    }


def deliver(
    config: GPTJConfig, output: ModelOutput, return_dict: bool | None
) -> ModelOutput | tuple[Any, ...]:
    """Return the output, or the plain tuple that `return_dict=False` asks for."""
    wanted = config.return_dict if return_dict is None else return_dict
    return output if wanted else output.to_tuple()
