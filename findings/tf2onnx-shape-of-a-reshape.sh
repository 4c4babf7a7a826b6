#!/usr/bin/env bash
# tf2onnx writes a file that ONNX Runtime refuses to run where a reshape asks for the shape of another.
#
# With:  tf2onnx 1.17.0, ONNX Runtime 1.32.0, TensorFlow 2.21.0
# Valid: a matmul of all rows of a batch, reshaped to (batch, length, width), whose `tf.shape` then
#        gives the sizes to split the width into heads; batch and length are open
# Seen:  the conversion says nothing; running: "The input tensor cannot be reshaped to the requested
#        shape. Input shape:{10,12}, requested shape:{10,12,3,4}". The optimizer has removed the first
#        reshape, and takes the sizes of the matmul in its place. With the sizes taken from the input
#        the file is right, and so it is for fixed sizes
# Due:   the numbers of TensorFlow
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 \
    tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

WEIGHT = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)


def heads_by_the_result(x):
    """Split (batch, length, 12) into (batch, length, 3, 4), by the sizes of what is split."""
    sizes = tf.shape(x)
    y = tf.reshape(tf.matmul(tf.reshape(x, (-1, 8)), WEIGHT), (sizes[0], sizes[1], 12))
    return tf.reshape(y, (tf.shape(y)[0], tf.shape(y)[1], 3, 4))


def heads_by_the_input(x):
    """Do the same by the sizes of the input."""
    sizes = tf.shape(x)
    y = tf.reshape(tf.matmul(tf.reshape(x, (-1, 8)), WEIGHT), (sizes[0], sizes[1], 12))
    return tf.reshape(y, (sizes[0], sizes[1], 3, 4))


def difference(function, shape):
    """Convert a function, run the file, and return how far it is from TensorFlow."""
    signature = [tf.TensorSpec(shape, tf.float32, "x")]
    graph = tf.function(function, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(graph, signature)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    return np.abs(found - function(X).numpy()).max()


assert difference(heads_by_the_input, (None, None, 8)) < 1e-5
assert difference(heads_by_the_result, (2, 5, 8)) < 1e-5
try:
    raise SystemExit(f"It runs now, {difference(heads_by_the_result, (None, None, 8)):.1e} off.")
except Exception as error:
    assert "Input shape:{10,12}, requested shape:{10,12,3,4}" in str(error), error
    print("sizes of the input, or fixed ones: right; of the result, open: ", str(error)[-140:].strip())
PY
