"""What Keras and TensorFlow want in addition: targets beside the inputs, and shapes.

PyTorch and JAX need nothing: ``torch.utils.data.DataLoader(dataset, batch_size)`` takes a data set
as it is, and what `batches` yields may go into any jitted function.
"""

import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.datasets.dataset import Dataset, Example
from gptj.errors import BackendUnavailable
from gptj.spec import IGNORE_INDEX
from gptj.system.versions import install_command

INPUTS: Final = ("input_ids", "attention_mask")


def shifted_targets(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the target of every position: the label of the next one, and -100 at the end.

    Args:
        labels: (..., T), as in the examples of a causal language model, whose loss shifts them.

    Returns:
        An array of the same shape and dtype: Keras's y, which nobody shifts any more.
    """
    targets = np.full_like(labels, IGNORE_INDEX)
    targets[..., :-1] = labels[..., 1:]
    return targets


def keras_batches(batches: Iterable[Example]) -> Iterator[tuple[Example, Any]]:
    """Yield every batch as (x, y), the form in which ``fit`` takes a generator.

    With ``fit(..., shuffle=False)``, as the order is the data set's own. The models' own losses
    take this y, and so do Keras's losses and metrics.

    Args:
        batches: what ``dataset.batches`` or ``dataset.stream`` returns.

    Returns:
        x, the dict of ids and mask, and y: `shifted_targets` of text, (B, T); the labels of a
        classification; or the dict of the positions of answers.
    """
    for batch in batches:
        inputs = {name: batch[name] for name in INPUTS}
        targets = {name: array for name, array in batch.items() if name not in INPUTS}
        is_text = "labels" in targets and targets["labels"].shape == inputs["input_ids"].shape
        if is_text:
            yield inputs, shifted_targets(targets["labels"])
        else:
            yield inputs, targets.get("labels", targets)


def output_signature(dataset: Dataset, batch_size: int | None = None) -> dict[str, Any]:
    """Return the signature of batches that ``tf.data.Dataset.from_generator`` asks for.

    Args:
        batch_size: of every batch, if `drop_last` leaves out a smaller one; None for any.

    Returns:
        A ``tf.TensorSpec`` by name, of shape (B, T) for tokens.

    Raises:
        BackendUnavailable: if TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise BackendUnavailable(
            f"output_signature needs tensorflow, which is not installed: {install_command('tf')}."
        )
    tensorflow = importlib.import_module("tensorflow")
    return {
        name: tensorflow.TensorSpec((batch_size, *array.shape), array.dtype, name)
        for name, array in dataset[0].items()
    }
