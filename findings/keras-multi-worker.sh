#!/usr/bin/env bash
# Keras 3 on TensorFlow trains no model, not even one layer, on several workers of tf.distribute.
#
# With:  Keras 3.15.1, TensorFlow 2.21.0, NumPy 2.4.6
# Valid: `fit` of a `Dense` that was made and compiled in the scope of the strategy: on two workers of
#        a `MultiWorkerMirroredStrategy`, and with a `ParameterServerStrategy`
# Seen:  ValueError in both workers, "Attempt to convert a value (PerReplica:{...}", and ValueError
#        from the coordinator, "you need to pass this dataset to
#        ClusterCoordinator.create_per_worker_dataset"
# Due:   a step of training, as with `MirroredStrategy` and as on a single worker
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
cat >"$folder/train.py" <<'PY'
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf


def train(strategy):
    """Return what `fit` of one layer raises in a strategy."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    try:
        model.fit(np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), verbose=0)
    except ValueError as error:
        return str(error)
    return "no error"


def worker(index, workers):
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    return train(tf.distribute.MultiWorkerMirroredStrategy())


def coordinator(one, two):
    cluster = tf.train.ClusterSpec({"worker": [one], "ps": [two]})
    servers = [tf.distribute.Server(cluster, job, 0, protocol="grpc") for job in cluster.jobs]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    return train(tf.distribute.ParameterServerStrategy(resolver)), servers


kind, *places = sys.argv[1:]
found = coordinator(*places)[0] if kind == "ps" else worker(int(kind), places)
print(f"{kind}: {found.splitlines()[0][:120]}")
due = "ClusterCoordinator.create_per_worker_dataset" if kind == "ps" else "PerReplica"
sys.stdout.flush()
os._exit(0 if due in found else 1)  # servers of TensorFlow do not end
PY
ports() {
    "$folder/venv/bin/python" -c "
import socket
held = [socket.socket() for _ in range(2)]
for one in held: one.bind(('localhost', 0))
print(*(f'localhost:{one.getsockname()[1]}' for one in held))"
}
run() { KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 timeout 120 "$folder/venv/bin/python" "$folder/train.py" "$@" 2>"$folder/log.$1"; }
both=$(ports)
# shellcheck disable=SC2086 # two words
run 0 $both & first=$!
# shellcheck disable=SC2086
run 1 $both || { cat "$folder/log.1"; exit 1; }
wait "$first" || { cat "$folder/log.0"; exit 1; }
# shellcheck disable=SC2046
run ps $(ports) || { cat "$folder/log.ps"; exit 1; }
