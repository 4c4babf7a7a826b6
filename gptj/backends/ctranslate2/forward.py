"""A generator of CTranslate2, and whole texts through it, which it takes without padding."""

import os
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array
from gptj.system import processor


def open_folder(folder: Path, compute_type: str) -> ctranslate2.Generator:
    """Return the generator of a folder, on all cores unless OMP_NUM_THREADS says how many.

    The engine itself would take four.
    """
    threads = 0 if "OMP_NUM_THREADS" in os.environ else processor.cores()
    return ctranslate2.Generator(str(folder), compute_type=compute_type, intra_threads=threads)


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
