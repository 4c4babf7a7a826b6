"""Whole texts through a generator of CTranslate2, which takes them without padding."""

import ctranslate2
import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array


def logits_at(
    generator: ctranslate2.Generator, ids: Array, mask: Array, kept: Array
) -> npt.NDArray[np.float32]:
    """Return the logits at some places (K,) of texts (B, T), as (B, K, V); 0 at padding.

    Padding may be anywhere: positions count what is attended, as they do in the engine.
    """
    rows = [row[attended != 0] for row, attended in zip(ids, mask, strict=True)]
    lengths = np.array([max(len(row), 1) for row in rows], np.int32)
    dense = np.zeros((len(rows), lengths.max()), np.int32)
    for number, row in enumerate(rows):
        dense[number, : len(row)] = row
    view = ctranslate2.StorageView.from_array
    found = np.asarray(generator.forward_batch(view(dense), view(lengths)))  # (B, L, V)
    places = np.maximum(np.cumsum(mask != 0, axis=1)[:, kept] - 1, 0)
    logits = np.take_along_axis(found, places[:, :, None], axis=1)
    return np.where((mask[:, kept] != 0)[:, :, None], logits, np.float32(0))
