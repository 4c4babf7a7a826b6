"""The tokenizer's output: a dict of sequences, padded to one length and made into tensors."""

import importlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

import numpy as np

from gptj.errors import BackendUnavailable, TokenizerError, choices
from gptj.spec import IGNORE_INDEX
from gptj.spec.types import Device, Tensor, TensorLike
from gptj.system.versions import install_command

_TENSORS: Final = {
    "np": ("numpy", "numpy"),
    "numpy": ("numpy", "numpy"),
    "pt": ("torch", "torch"),
    "torch": ("torch", "torch"),
    "tf": ("tensorflow", "tf"),
    "jax": ("jax", "flax"),
    "flax": ("jax", "flax"),
}
"""Value of `return_tensors` -> module that makes the tensors, and extra that installs it."""

PADDINGS: Final = {
    None: "do_not_pad",
    False: "do_not_pad",
    True: "longest",
    "do_not_pad": "do_not_pad",
    "longest": "longest",
    "max_length": "max_length",
}
SIDES: Final = ("left", "right")

_FILLERS: Final = {
    "attention_mask": 0,
    "token_type_ids": 0,
    "special_tokens_mask": 1,
    "offset_mapping": (0, 0),
    "labels": IGNORE_INDEX,
}
"""Entry -> filler of its padding; the pad token fills `input_ids`."""


class BatchEncoding(dict[str, Any]):
    """Model inputs by name; an entry is also an attribute (``batch.input_ids``)."""

    def __getattr__(self, name: str) -> Any:
        """Return the entry called `name`."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"This BatchEncoding has no {name!r}; it holds {choices(self)}."
            ) from None

    def to(self, device: Device) -> "BatchEncoding":
        """Move every PyTorch tensor to `device` and return this batch.

        Raises:
            TokenizerError: when no entry is a PyTorch tensor.
        """
        movable = [name for name, value in self.items() if hasattr(value, "to")]
        if not movable:
            raise TokenizerError(
                f"to({device!r}) moves PyTorch tensors, and none of {choices(self)} is one: "
                "ask for them with return_tensors='pt'."
            )
        self.update({name: self[name].to(device) for name in movable})
        return self


def look_up(name: str, value: object, accepted: Mapping[Any, Any] | Sequence[Any]) -> Any:
    """Return the meaning of an accepted value, or raise TokenizerError."""
    # A list or tensor passed by mistake cannot be hashed or compared, so the type comes first.
    if not isinstance(value, bool | str | None) or value not in accepted:
        raise TokenizerError(f"{name} is {value!r}; accepted are {choices(accepted)}.")
    return accepted[value] if isinstance(accepted, Mapping) else value


def common_length(lengths: Iterable[int], fixed: int | None, multiple_of: int | None) -> int:
    """Return `fixed`, or else the longest length, rounded up to a multiple of `multiple_of`."""
    if multiple_of is not None and multiple_of < 1:
        raise TokenizerError(f"pad_to_multiple_of is {multiple_of}; it must be 1 or more.")
    length = max(lengths, default=0) if fixed is None else fixed
    return length if multiple_of is None else -(-length // multiple_of) * multiple_of


def pad_sequences(
    batch: BatchEncoding, *, length: int, side: str, pad_token_id: int
) -> BatchEncoding:
    """Return a batch with every sequence padded to `length` on `side`; longer ones stay."""
    fillers = _FILLERS | {"input_ids": pad_token_id}
    sizes = [len(ids) for ids in batch["input_ids"]]
    padded = BatchEncoding(batch)
    for name in batch.keys() & fillers.keys():
        sequences = batch[name]
        # Labels of whole texts get no padding.
        if all(isinstance(ids, list) for ids in sequences) and [*map(len, sequences)] == sizes:
            padded[name] = [_pad(ids, length, side, fillers[name]) for ids in sequences]
    return padded


def as_list(values: object) -> Any:
    """Return a tensor of any framework and device as (nested) lists; other values stay."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return values.numpy().tolist() if hasattr(values, "numpy") else values


def id_sequence(token_ids: TensorLike) -> list[int]:
    """Return one id, or a sequence of ids in any container, as a list of integers."""
    try:
        ids = np.atleast_1d(as_list(token_ids))
    except ValueError:
        ids = np.empty((0, 0))
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        raise TokenizerError(
            f"{token_ids!r} is not one sequence of integer ids: for a batch use batch_decode."
        )
    return [int(index) for index in ids]


def collate(encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> BatchEncoding:
    """Return encodings, a list of them or one dict, as one batch of lists.

    Raises:
        TokenizerError: if one of them lacks ``input_ids``, or an entry that another has.
    """
    if not isinstance(encoded, Mapping):
        names = list(dict.fromkeys(name for entry in encoded for name in entry))
        lacking = [name for name in names if any(name not in entry for entry in encoded)]
        if lacking:
            raise TokenizerError(f"Only some of the encodings hold {choices(lacking)}: all must.")
        encoded = {name: [entry[name] for entry in encoded] for name in names}
    if "input_ids" not in encoded:
        raise TokenizerError(f"pad needs 'input_ids', but was given {choices(encoded)}.")
    return BatchEncoding(
        {name: [as_list(ids) for ids in as_list(batch)] for name, batch in encoded.items()}
    )


def _pad(sequence: list[Any], length: int, side: str, filler: object) -> list[Any]:
    padding = [filler] * (length - len(sequence))
    return padding + sequence if side == "left" else sequence + padding


def tensors(batch: BatchEncoding, kind: str) -> BatchEncoding:
    """Return `batch` as tensors of shape (B, T): int64 for NumPy and PyTorch, else int32.

    Raises:
        TokenizerError: for an unknown kind, or sequences of different lengths.
        BackendUnavailable: if the framework of such tensors is not installed.
    """
    framework, extra = look_up("return_tensors", kind, _TENSORS)
    if importlib.util.find_spec(framework) is None:
        raise BackendUnavailable(
            f"return_tensors={kind!r} needs {framework}, which is not installed: "
            f"{install_command(extra)}."
        )
    module = importlib.import_module(framework)
    return BatchEncoding(
        {name: _tensor(module, _rectangle(name, sequences)) for name, sequences in batch.items()}
    )


def _rectangle(name: str, sequences: Sequence[Any]) -> np.ndarray:
    try:
        array = np.asarray(sequences)
    except ValueError:
        lengths = sorted({np.size(ids) for ids in sequences})
        raise TokenizerError(
            f"The sequences of {name} have the lengths {lengths} and cannot make one tensor: "
            "pass padding=True, and truncation=True if they are longer than max_length."
        ) from None
    is_float = array.dtype.kind == "f" and array.size > 0
    return array.astype(np.float32 if is_float else np.int64)


def _tensor(module: ModuleType, array: np.ndarray) -> Tensor:
    if module.__name__ == "numpy":
        return array
    if module.__name__ == "torch":
        return module.from_numpy(array)
    if array.dtype == np.int64:
        array = array.astype(np.int32)  # as TensorFlow's users expect; JAX has no int64 by default
    return module.numpy.asarray(array) if module.__name__ == "jax" else module.constant(array)
