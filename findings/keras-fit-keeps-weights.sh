#!/usr/bin/env bash
# Keras 3 on TensorFlow keeps the weights of every model that `fit` has trained, until the process ends.
#
# With:  Keras 3.15.1, TensorFlow 2.21.0, NumPy 2.4.6
# Valid: a `Dense` of 4 MB is made, compiled, used once and dropped, ten times; `gc.collect()` after
#        each
# Seen:  after `fit` with SGD a graph stays for each model, and 4 MB; with Adam two graphs, and 16 MB,
#        its moments among them. The graphs are those in which the optimizer adds up the gradients of
#        all replicas, of which there is one. After `evaluate` there is no graph, and less than 4 MB
# Due:   as after `evaluate`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import gc
import resource

import keras
import numpy as np

WIDTH, TIMES = 1000, 10
ROWS = np.ones((2, WIDTH), "float32")


def use(optimizer):
    model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(WIDTH)])
    model.compile(optimizer or "sgd", "mse")
    (model.fit if optimizer else model.evaluate)(ROWS, ROWS, verbose=0)


def kept():
    """Return the graphs that there are, and the MB of the process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return sum(type(one).__name__ == "FuncGraph" for one in gc.get_objects()), size


for optimizer, graphs in ((None, 0), ("sgd", 1), ("adam", 2)):
    for _ in range(3):
        use(optimizer)
    before = kept()
    for _ in range(TIMES):
        use(optimizer)
    found = [(after - first) / TIMES for after, first in zip(kept(), before)]
    print(f"{'fit with ' + optimizer if optimizer else 'evaluate'}: {found[0]:g} graphs, {found[1]:.0f} MB")
    assert found[0] == graphs, "Keras keeps other graphs now"
    assert (found[1] > 3.5) == bool(graphs), "Keras keeps other memory now"
PY
