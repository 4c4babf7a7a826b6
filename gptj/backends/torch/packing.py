"""Several sequences in one row, as trainers pack them: no token sees those of another sequence."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.errors import ArgumentError, InputError, choices, suggest

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained


class Packed(TypedDict, total=False):
    """The boundaries of packed sequences, under the names that FlashAttention gave them."""

    cu_seq_lens_q: Tensor  # (N + 1,) where each sequence begins, and the length of all
    cu_seq_lens_k: Tensor  # the same
    max_length_q: int  # of the longest, which follows from the boundaries
    max_length_k: int
    seq_idx: Tensor  # (1, T) the number of each token's sequence, which follows too


def unpacked(
    model: "TorchPretrained", packed: Mapping[str, Any], inputs: Mapping[str, Tensor | None]
) -> dict[str, Tensor | None]:
    """Return inputs with the mask (1, 1, T, T) and positions (1, T) that packed sequences need.

    Raises:
        ArgumentError: for an argument of another name, and beside a mask.
        InputError: for boundaries that do not divide the one row of the inputs.
    """
    names = list(Packed.__annotations__)
    if unknown := [name for name in packed if name not in names]:
        hints = "".join(suggest(name, names) for name in unknown)
        raise ArgumentError(f"The model has no argument {choices(unknown)}.{hints}")
    if not packed:
        return dict(inputs)
    if "cu_seq_lens_q" not in packed or inputs["attention_mask"] is not None:
        raise ArgumentError(
            "Packed sequences need their boundaries, cu_seq_lens_q, and no attention_mask beside "
            f"them; found {choices(packed)}"
            f"{'' if inputs['attention_mask'] is None else ' and an attention_mask'}."
        )
    starts = params.input_tensor(packed["cu_seq_lens_q"], "cu_seq_lens_q", model)
    given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
    shape = (1, 0) if given is None else tuple(given.shape[:2])  # the checks refuse it without
    _check_boundaries(starts, packed.get("cu_seq_lens_k"), shape)
    index = torch.arange(shape[1], device=starts.device)
    sequence = torch.searchsorted(starts, index, right=True) - 1  # (T,)
    together = sequence[:, None] == sequence[None, :]
    mask = together & (index[:, None] >= index[None, :])
    places = inputs["position_ids"]
    if places is None:
        places = (index - starts[sequence])[None]
    return {**inputs, "attention_mask": mask[None, None], "position_ids": places}


def _check_boundaries(starts: Tensor, keys: Any, shape: tuple[int, ...]) -> None:
    """Refuse boundaries that do not divide one row of so many tokens."""
    values = params.concrete(starts)
    if values is None:
        return
    fits = shape[0] == 1 and values.ndim == 1 and len(values) > 1
    fits = fits and values[0] == 0 and values[-1] == shape[1] and bool((np.diff(values) > 0).all())
    if not fits or (keys is not None and not np.array_equal(values, params.to_numpy(keys))):
        raise InputError(
            "cu_seq_lens_q must rise from 0 to the number of tokens of a single row, and "
            f"cu_seq_lens_k must be the same; found {values.tolist()} for inputs of shape {shape}."
        )
