#!/usr/bin/env bash
# Keras's Adam on TensorFlow takes a token that occurs several times in a batch for several tokens.
#
# With:  Keras 3.15.1, TensorFlow 2.21.0, NumPy 2.4.6
# Valid: one update of an `Embedding` by `keras.optimizers.Adam`, with one id three times in the
#        batch, so that its gradient is 1 + 2 + 4 = 7
# Seen:  the second moment gets 1 + 4 + 16 = 21 in place of 49, as the rows of `tf.IndexedSlices`
#        are squared before they are added up; the first step is 1.53 learning rates long
# Due:   the update of the same gradient as a tensor, a step of one learning rate
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import keras
import numpy as np
import tensorflow as tf


def update(as_tensor):
    """Return the second moment over (1 - beta_2), and the step in learning rates."""
    layer = keras.layers.Embedding(4, 1, embeddings_initializer="zeros")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant([2, 2, 2])) * [[1.0], [2.0], [4.0]])
    (gradient,) = tape.gradient(loss, [layer.embeddings.value])
    optimizer = keras.optimizers.Adam(learning_rate=0.5)
    optimizer.apply([tf.convert_to_tensor(gradient) if as_tensor else gradient], [layer.embeddings])
    moment = next(v for v in optimizer.variables if "velocity" in v.path)
    return moment.numpy()[2, 0] / 0.001, abs(layer.embeddings.numpy()[2, 0]) / 0.5


rows, tensor = update(as_tensor=False), update(as_tensor=True)
print("as rows:     second moment %.2f, step %.3f" % rows)
print("as a tensor: second moment %.2f, step %.3f" % tensor)
np.testing.assert_allclose(tensor, (49, 1), rtol=1e-3)
np.testing.assert_allclose(rows, (21, 7 / 21**0.5), rtol=1e-3, err_msg="Keras does otherwise now")
PY
