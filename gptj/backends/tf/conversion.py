"""Formats of other runtimes: the forward pass as Keras's converters take it, and what they take."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

import keras
import tensorflow as tf

from gptj.errors import ArgumentError, BackendUnavailable, UnsupportedFeature, choices, suggest

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Tensor: TypeAlias = tf.Tensor

SAVED_MODEL: Final = "tf_saved_model"

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    SAVED_MODEL: (),
    "onnx": ("opset_version",),
    "openvino": (),
}
"""Format -> its options; of those of LiteRT, which are many, Keras refuses the unknown."""

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "onnx": ("onnx", "tf2onnx"),
    "openvino": ("openvino",),
}
"""Format -> the packages that write it; LiteRT's is part of TensorFlow."""

OPSETS: Final = range(12, 19)
"""The versions of ONNX's operators with which tf2onnx writes files that run."""

MAX_ONNX_BYTES: Final = 2**31
"""What a file of ONNX, which is one message of protobuf, may hold."""


class Endpoint(keras.Model):
    """A function of tensors as the one thing that Keras's converters take, a model.

    Given the model, they would ask it for a cache, and for the shapes that it was built with.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__(name="gptj")
        self.function = function
        self.built = True

    def __call__(self, *inputs: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Call the function; Keras says that nothing is trained, which it knows."""
        return self.function(*inputs)


def check_options(format: str, options: Mapping[str, object]) -> None:
    """Refuse options that Keras would pass over, and versions of ONNX that do not work."""
    known = OPTIONS.get(format)
    unknown = [name for name in options if known is not None and name not in known]
    if unknown:
        hints = "".join(suggest(name, known or ()) for name in unknown)
        has = f"It has {choices(known)}." if known else "It has none."
        raise ArgumentError(f"The format {format!r} has no option {choices(unknown)}.{hints} {has}")
    opset = options.get("opset_version")
    if format == "onnx" and opset is not None and (type(opset) is not int or opset not in OPSETS):
        raise ArgumentError(
            f"opset_version must be an integer from {OPSETS[0]} to {OPSETS[-1]}; found {opset!r}. "
            "tf2onnx knows no later ones, and with earlier ones it writes files that do not run."
        )


def check_conversion(
    model: "TFPretrained", format: str, signature: list[tf.TensorSpec], generate: object
) -> None:
    """Refuse what converters fail at, or get wrong without a word.

    Raises:
        ArgumentError: for text generation, and for an int8 model and inputs of one shape.
        UnsupportedFeature: for half precision, and for more weights than a file can hold.
        BackendUnavailable: where a package is missing.
    """
    if generate is not None:
        raise ArgumentError(
            f"generate= writes a signature of a SavedModel, and none of {format!r}. For LiteRT, "
            "export a SavedModel, and give tf.lite.TFLiteConverter.from_saved_model the folder and "
            "signature_keys=['generate']."
        )
    halves = {model.variable_dtype, model.compute_dtype} - {"float32"}
    if halves:
        raise UnsupportedFeature(
            f"Models are converted to {format!r} in float32; found {choices(sorted(halves))}. Load "
            "the model with dtype='float32', or export a SavedModel."
        )
    is_fixed = all(spec.shape.is_fully_defined() for spec in signature)
    if model.config.is_quantized and is_fixed:
        raise ArgumentError(
            "For one shape, an int8 model has kernels of this machine, which no converter takes. "
            f"Leave a size open for {format!r}: keras.InputSpec(shape=(None, None), dtype='int32')."
        )
    values = [weight.value for weight in model.weights]
    size = sum(value.dtype.size * value.shape.num_elements() for value in values)
    if format == "onnx" and size > MAX_ONNX_BYTES:
        raise UnsupportedFeature(
            f"A file of ONNX holds 2 GiB; the weights have {size / 2**30:.1f} GiB. Load the model "
            "with quantize='int8', or export a SavedModel or OpenVINO's format."
        )
    missing = [name for name in PACKAGES.get(format, ()) if find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"The format {format!r} needs {choices(missing)}: pip install {' '.join(missing)}"
        )
