"""Exports: a model's forward pass and its text generation, without their code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import keras
import tensorflow as tf

from gptj.backends.tf.conversion import SAVED_MODEL, Endpoint, check_conversion, check_options
from gptj.errors import ArgumentError

Tensor: TypeAlias = tf.Tensor

NAMES: Final = ("input_ids", "attention_mask")


class Served:
    """A model that can be exported."""

    def export(
        self,
        filepath: str | Path,
        format: str = SAVED_MODEL,
        verbose: bool | None = None,
        input_signature: Sequence[Any] | None = None,
        generate: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Write the model for TensorFlow Serving, ONNX, OpenVINO or LiteRT.

        All formats take `input_ids` (B, T) and `attention_mask` (B, T), int32, of any shape, and
        return the outputs that are one tensor each, by name: `logits` (B, T, V) of a causal LM.
        There is no cache among them. In a SavedModel this is the signature ``serve``, the default
        one.

        Args:
            filepath: the folder of a SavedModel; a file that ends in ``.xml`` for OpenVINO, and in
                ``.tflite`` for LiteRT.
            format: "tf_saved_model", "onnx", "openvino" or "litert". The last three are written by
                ``keras.Model.export``; all but LiteRT need a package that it names.
            verbose: print what was written; by default nothing is. Of a SavedModel Keras lists
                every weight.
            input_signature: another shape and dtype for the ids, or for ids and mask: objects with
                both, such as a ``keras.InputSpec``.
            generate: options of ``model.generate``, `max_new_tokens` among them, for a second
                signature ``generate`` of a SavedModel with the same inputs, which returns a dict
                of `sequences` (B, T + max_new_tokens).
            options: those of Keras's converters: `opset_version` of ONNX, 12 to 18, and of
                LiteRT what a ``tf.lite.TFLiteConverter`` has.

        Raises:
            ArgumentError: for a signature of other inputs, for options that the format does not
                have or take, or that a graph cannot follow, and for an int8 model with one shape.
            UnsupportedFeature: for half precision in another format than a SavedModel, and for
                more than two gigabytes in ONNX.
            BackendUnavailable: where a package that writes the format is missing.
        """
        check_options(format, options)
        signature = _specs(input_signature)
        if format != SAVED_MODEL:
            check_conversion(self, format, signature, generate)  # type: ignore[arg-type]
            endpoint = Endpoint(self.serve)
            endpoint.export(str(filepath), format, bool(verbose), signature, **options)
            return
        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", self.serve, signature)
        if generate is not None:
            archive.add_endpoint("generate", self._generating(generate), signature)
        archive.write_out(str(filepath), verbose=bool(verbose))

    def serve(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs that are one tensor each, in a plain dict."""
        output = self(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=attention_mask,
            training=False,
            use_cache=False,
            return_dict=True,
        )
        return {name: value for name, value in output.items() if tf.is_tensor(value)}

    def _generating(self, options: Mapping[str, Any]) -> Callable[..., dict[str, Tensor]]:
        """Return generation with these options, as a function of ids and mask alone."""

        def generate(input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
            output = self.generate(input_ids, attention_mask, **options)  # type: ignore[attr-defined]
            return {"sequences": output}

        return generate


def _specs(signature: Sequence[Any] | None) -> list[tf.TensorSpec]:
    """Return the inputs of a graph: ids and mask of any shape, or as the caller says."""
    if signature is None:
        return [tf.TensorSpec((None, None), tf.int32, name) for name in NAMES]
    is_list = isinstance(signature, (list, tuple)) and 1 <= len(signature) <= len(NAMES)
    if not is_list or not all(_is_of_ids(given) for given in signature):
        raise ArgumentError(
            "input_signature must be a list of one or two, of input_ids, and of attention_mask, "
            "each with a shape of two sizes, of which None is any, and a dtype: "
            "[keras.InputSpec(shape=(None, None), dtype='int32')]; "
            f"found {signature!r}. keras.export.ExportArchive takes functions of any inputs."
        )
    pairs = zip(signature, NAMES, strict=False)
    return [tf.TensorSpec(given.shape, given.dtype, name) for given, name in pairs]


def _is_of_ids(given: Any) -> bool:
    """Return whether something has a dtype and the shape (B, T)."""
    shape, dtype = (getattr(given, name, None) for name in ("shape", "dtype"))
    return dtype is not None and shape is not None and tf.TensorShape(shape).rank == 2
