"""What the tests of Keras's training loop share: small models to train, and what to train them on.

Imported after ``gptj.backends.tf``, which chooses Keras's backend.
"""

import keras
import numpy as np

from gptj.backends.tf.heads import (
    TFGPTJForCausalLM,
    TFGPTJForQuestionAnswering,
    TFGPTJForSequenceClassification,
)
from gptj.model.config import GPTJConfig
from models import draw_ids

CLASSES = {
    "causal_lm": TFGPTJForCausalLM,
    "sequence_classification": TFGPTJForSequenceClassification,
    "question_answering": TFGPTJForQuestionAnswering,
}
IDS = draw_ids((8, 9), seed=5).astype(np.int32)
LABELS = np.where(np.arange(9) < 3, -100, IDS)  # a prompt of three tokens, which is not learnt
SHIFTED = np.hstack([LABELS[:, 1:], np.full((8, 1), -100, np.int32)])
TARGETS = {
    "causal_lm": {"labels": LABELS},
    "sequence_classification": {"labels": IDS[:, 0] % 2},
    "question_answering": {"start_positions": IDS[:, 0] % 4, "end_positions": 4 + IDS[:, 1] % 5},
}
AS_Y = {
    "causal_lm": SHIFTED,
    "sequence_classification": TARGETS["sequence_classification"]["labels"],
    "question_answering": tuple(TARGETS["question_answering"].values()),
}


def fresh(head="causal_lm", dtype=None):
    """Return a new model of one layer, the same every time."""
    config = GPTJConfig(
        vocab_size=96, n_positions=16, n_embd=24, n_layer=1, n_head=2, rotary_dim=4, num_labels=2
    )
    return CLASSES[head](config, seed=3, dtype=dtype)


def compiled(head="causal_lm", dtype=None, optimizer=None, **how):
    """Return a new model that is ready to be trained."""
    model = fresh(head, dtype)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), **how)
    return model


def inputs(head="causal_lm"):
    """Return what a head is trained on, with the labels inside x."""
    return {"input_ids": IDS, **TARGETS[head]}


def train(model, x=None, y=None, epochs=3, batch_size=4, **options):
    """Train a model, and return its loss epoch by epoch."""
    x = inputs(model.head) if x is None else x
    options = {"shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, epochs=epochs, batch_size=batch_size, **options).history["loss"]
