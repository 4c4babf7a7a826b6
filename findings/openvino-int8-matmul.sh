#!/usr/bin/env bash
# OpenVINO turns TensorFlow's int8 matmul with int32 sums into one with int8 sums, which saturate.
#
# With:  OpenVINO 2026.4.1, TensorFlow 2.21.0
# Valid: `tf.matmul(x, w, output_type=tf.int32)` of int8 matrices, whose dtype of the sums is int32
# Seen:  the sums 2048, -2048 and 24 come out as 127, -128 and 24, in a tensor of int32: a MatMul in
#        int8 with a conversion behind it. No error, no warning, and small sums are right
# Due:   the sums of TensorFlow, or an error of the converter
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import numpy as np
import openvino
import tensorflow as tf


@tf.function(input_signature=[tf.TensorSpec((None, 32), tf.int8, "x")])
def multiply(x):
    return {"sums": tf.matmul(x, np.full((32, 1), 8, np.int8), output_type=tf.int32)}


x = np.full((3, 32), 8, np.int8)
x[1], x[2] = -8, 0
x[2, :5] = (1, 1, 1, 1, -1)
model = openvino.convert_model(multiply.get_concrete_function())
found = openvino.compile_model(model, "CPU")(x)["sums"].ravel()
expected = multiply(x)["sums"].numpy().ravel()
print("TensorFlow:", expected, "OpenVINO:", found, found.dtype)
print([(node.get_type_name(), str(node.get_output_element_type(0))) for node in model.get_ordered_ops()])
assert expected.tolist() == [2048, -2048, 24], expected
assert found.tolist() == [127, -128, 24] and found.dtype == np.int32, "OpenVINO adds up otherwise now"
PY
