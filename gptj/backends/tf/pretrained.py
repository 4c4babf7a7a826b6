"""What the Keras models share: how they are called, saved and asked for their weights."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, TypeAlias

import keras
import tensorflow as tf

from gptj.backends.tf import keras_checks
from gptj.backends.tf.cache import KVCache, init_cache
from gptj.backends.tf.call_inputs import as_keywords
from gptj.backends.tf.capture import Capturable
from gptj.backends.tf.keras_fit import Fitted
from gptj.backends.tf.keras_methods import KerasMethods
from gptj.backends.tf.layers import Embedding, Linear
from gptj.backends.tf.saved_model import Served
from gptj.contract.backend import FrameworkBackend
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.model.pretrained import Pretrained
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.resize import check_word_table
from gptj.spec.types import DType, TensorLike

if TYPE_CHECKING:
    from gptj.backends.tf.model import TFGPTJModel

Tensor: TypeAlias = tf.Tensor

BESIDE: Final = ("own_options", "source_folder", "loaded_as", "name_or_path", "model_tags")
"""What a model has besides what Keras keeps of it."""


class TFPretrained(Capturable, Fitted, KerasMethods, Served, Pretrained, keras.Model):
    """The base of every Keras model.

    A model has its variables from the start. Inputs may be keywords, one tensor, a list in the
    order of the arguments, or a dict; they are tensors, NumPy arrays, lists or ``keras.Input``.
    """

    backend: ClassVar[FrameworkBackend["TFPretrained", Tensor, KVCache]]
    backend_name = "tf"

    if not TYPE_CHECKING:  # for types it is the inherited one
        # TensorFlow: a caller's tf.function would rewrite all of it, line by line, for nothing
        generate = tf.autograph.experimental.do_not_convert(Pretrained.generate)

    def __init__(
        self, config: GPTJConfig, seed: int, name: str | None, dtype: DType, trainable: bool
    ) -> None:
        # Keras: autocasting would round the caller's masks and embeddings
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        keras_checks.check_policy(self.dtype_policy)
        self.config = config
        self.seed = seed
        # compiled loops, in a wrapper: Keras and TensorFlow would track a plain dict
        self.functions = SimpleNamespace(compiled={})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Turn the inputs into keywords, and run the model."""
        given = as_keywords(self.call_signature_parameters, args, kwargs)
        if any(isinstance(value, keras.KerasTensor) for value in given.values()):
            # Keras: a functional model has tensors as outputs, and a cache's length is none
            given.setdefault("use_cache", False)
        return super().__call__(**given)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config` that make a model like this one."""
        if self.lora_is_merged:  # the kernels from before would be lost
            raise ArgumentError(
                "Keras cannot save a model with a merged adapter. Call unmerge_lora() first, or "
                "remove_lora() to keep the merged weights alone."
            )
        config = {
            "config": self.config.to_dict(),
            "seed": self.seed,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
        }
        return config if self.lora is None else {**config, "lora": asdict(self.lora)}

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any] | GPTJConfig,
        custom_objects: dict[str, object] | None = None,
        **others: Any,
    ) -> Self:
        """Return a model like the one that gave `config`, or a new one for a `GPTJConfig`.

        For the second it takes what `new_model` takes.
        """
        if not isinstance(config, dict):
            return super().from_config(config, **others)
        options = dict(config)
        lora = options.pop("lora", None)
        model = cls(cls.config_class.from_dict(options.pop("config")), **options)
        return model if lora is None else model.add_lora(**lora)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as Keras does, with what it would leave behind."""
        make, arguments, *_ = super().__reduce__()
        return make, arguments, {name: getattr(self, name) for name in BESIDE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what Keras has left behind."""
        self.__dict__.update(state)
        self.config.name_or_path = self.name_or_path

    def prepare_tf_dataset(self, *given: Any, **options: Any) -> NoReturn:
        """Refuse: TensorFlow makes a dataset of what the tokenizer returns."""
        raise UnsupportedFeature(
            "There is no prepare_tf_dataset. Use tf.data.Dataset.from_tensor_slices({**tokenizer("
            "texts, padding=True, return_tensors='np'), 'labels': labels}).batch(8), or "
            "gptj.datasets.keras_batches for files of text."
        )

    def predict_step(self, data: Any) -> ModelOutput:
        """Run a batch of `predict`, which joins batches: without a cache and without a loss."""
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        output = self(inputs, training=False, use_cache=False, return_dict=True)
        return ModelOutput((name, value) for name, value in output.items() if name != "loss")

    @property
    def device(self) -> str:
        """The device of the parameters."""
        return str(self.weights[0].value.device)

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that keeps its size."""
        return init_cache(self.config, batch, max_length, self.compute_dtype)

    def get_base(self) -> "TFGPTJModel":
        """Return the model without its head."""
        return self if self.head == "base" else self.transformer

    def get_input_embeddings(self) -> Embedding:
        """Return the word table."""
        return self.get_base().wte

    def set_input_embeddings(self, value: TensorLike | Embedding) -> None:
        """Replace the values of the word table by an array, tensor or `Embedding` of (V, E).

        Raises:
            InputError: for another shape.
        """
        table: Any = value.embeddings if isinstance(value, Embedding) else value
        check_word_table(self.config, tuple(table.shape))
        self.get_base().wte.embeddings.assign(table)

    def get_output_embeddings(self) -> Linear | None:
        """Return the projection of the language-model head, None for other heads."""
        return getattr(self, "lm_head", None)
