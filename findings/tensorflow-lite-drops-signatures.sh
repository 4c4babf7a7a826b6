#!/usr/bin/env bash
# TFLiteConverter drops all signatures but one of a SavedModel that Keras exported, also those asked for.
#
# With:  TensorFlow 2.21.0, Keras 3.15.1
# Valid: `TFLiteConverter.from_saved_model(folder, signature_keys=["serve", "double"])` of a
#        `keras.export.ExportArchive` with these two endpoints
# Seen:  the file has one signature, "serving_default": "double" is missing, and "serve" has another
#        name. No error, no warning. So it is without `signature_keys`, whose default is all; asked for
#        alone, "double" is converted. The same two functions as "first" and "double" are both kept
# Due:   the signatures that were asked for, under their names
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - "$folder" <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import sys

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

SIGNATURE = [tf.TensorSpec((None, 3), tf.float32, "x")]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def written(first):
    """Write a SavedModel with two signatures, of which the first has a given name."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(first, lambda x: {"y": model(x)}, SIGNATURE)
    archive.add_endpoint("double", lambda x: {"y": 2 * model(x)}, SIGNATURE)
    archive.write_out(f"{sys.argv[1]}/{first}", verbose=False)
    return f"{sys.argv[1]}/{first}"


def converted(folder, keys=None):
    """Return the signatures of the file that the converter makes of a SavedModel."""
    asked = {} if keys is None else {"signature_keys": keys}
    content = tf.lite.TFLiteConverter.from_saved_model(folder, **asked).convert()
    return sorted(Interpreter(model_content=content).get_signature_list())


named_serve, named_first = written("serve"), written("first")
for folder, keys in (
    (named_serve, ["serve", "double"]),
    (named_serve, None),
    (named_serve, ["double"]),
    (named_first, ["first", "double"]),
):
    print("asked for", keys, "found", converted(folder, keys))
assert converted(named_serve, ["serve", "double"]) == ["serving_default"], "they are kept now"
assert converted(named_serve) == ["serving_default"]
assert converted(named_serve, ["double"]) == ["double"]
assert converted(named_first, ["first", "double"]) == ["double", "first"]
PY
