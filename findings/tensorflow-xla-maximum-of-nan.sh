#!/usr/bin/env bash
# TensorFlow's largest number of an array is NaN if one of them is; compiled by XLA it is not.
#
# With:  TensorFlow 2.21.0, NumPy 2.4.6, on a CPU
# Valid: `tf.reduce_max` inside `tf.function(jit_compile=True)`, as in the scaling of a softmax or
#        of int8 weights
# Seen:  NaN is passed over: the maximum of 1, NaN and 3 is 3, that of NaN alone is -inf, and a
#        model that has come to NaN looks sound
# Due:   NaN, as without `jit_compile`, and as from `tf.maximum` in the same compiled graph
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import math

import tensorflow as tf

NAN = float("nan")


def largest(x):
    return tf.reduce_max(x)


def larger(x):
    return tf.maximum(x[1], x[0])


compiled = tf.function(largest, jit_compile=True)
for numbers in ([1.0, NAN, 3.0], [NAN, NAN]):
    x = tf.constant(numbers)
    print(numbers, "->", float(largest(x)), "and by XLA", float(compiled(x)))
    assert math.isnan(largest(x)) and math.isnan(tf.function(largest)(x))
assert float(compiled(tf.constant([1.0, NAN, 3.0]))) == 3, "XLA does otherwise now"
assert float(compiled(tf.constant([NAN, NAN]))) == -math.inf, "XLA does otherwise now"
assert math.isnan(tf.function(larger, jit_compile=True)(tf.constant([1.0, NAN])))
PY
