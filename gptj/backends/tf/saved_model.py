"""SavedModels: a model's forward pass and its text generation, without their code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import keras
import tensorflow as tf

from gptj.errors import ArgumentError

Tensor: TypeAlias = tf.Tensor

NAMES: Final = ("input_ids", "attention_mask")


class Served:
    """A model that can be exported."""

    def export(
        self,
        filepath: str | Path,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Sequence[Any] | None = None,
        generate: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Write a SavedModel, which ``tf.saved_model.load`` and TensorFlow Serving read.

        Its signature ``serve``, the default one, takes `input_ids` (B, T) and `attention_mask`
        (B, T), int32, of any shape, and returns a dict of the outputs that are one tensor each:
        `logits` (B, T, V) of a causal LM. There is no cache among them.

        Args:
            filepath: the folder.
            format: other formats are left to ``keras.Model.export``.
            verbose: print the signatures; None does.
            input_signature: another shape and dtype for the ids, or for ids and mask: objects with
                both, such as a ``keras.InputSpec``.
            generate: options of ``model.generate``, `max_new_tokens` among them, for a second
                signature ``generate`` with the same inputs, which returns a dict of `sequences`
                (B, T + max_new_tokens).

        Raises:
            ArgumentError: for a signature of other inputs, or options that a graph cannot follow.
        """
        if format != "tf_saved_model":
            options |= {"input_signature": input_signature, "verbose": verbose}
            return super().export(filepath, format, **options)  # type: ignore[misc]
        signature = _specs(input_signature)
        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", self.serve, signature)
        if generate is not None:
            archive.add_endpoint("generate", self._generating(generate), signature)
        archive.write_out(str(filepath), verbose=verbose is not False)

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
    if not isinstance(signature, (list, tuple)) or not 1 <= len(signature) <= len(NAMES):
        raise ArgumentError(
            "input_signature must be a list of one or two: of input_ids, and of attention_mask; "
            f"found {signature!r}. keras.export.ExportArchive takes functions of any inputs."
        )
    pairs = zip(signature, NAMES, strict=False)
    return [tf.TensorSpec(given.shape, given.dtype, name) for given, name in pairs]
