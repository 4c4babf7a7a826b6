"""GPT-J in TensorFlow/Keras 3. Every model class has its backend once this is imported."""

import os

from gptj.errors import BackendUnavailable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets on standard error

# Keras reads this once, on its first import
_backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if _backend == "tensorflow":
    import keras

    _backend = keras.config.backend()
if _backend != "tensorflow":
    raise BackendUnavailable(
        f"The backend 'tf' needs Keras on TensorFlow, but Keras is set to {_backend!r}. Set the "
        "environment variable KERAS_BACKEND=tensorflow before Keras is first imported."
    )

from gptj.backends.tf.backend import BACKEND  # noqa: E402 (after the check)

__all__ = ["BACKEND"]
