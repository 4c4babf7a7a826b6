"""What tests let another process do, which must find it by name: test files cannot be imported."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from models import draw_ids

IDS = draw_ids((2, 7), seed=51)


def in_another_process(function, *args):
    """Return what a function returns in a spawned process; an error if that dies."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result(timeout=300)


def first_output(model):
    """Return the first output of a model as an array."""
    backend = model.backend
    output = backend.forward(model, input_ids=backend.from_numpy(IDS)).to_tuple()[0]
    return np.asarray(backend.to_numpy(output), np.float32)
