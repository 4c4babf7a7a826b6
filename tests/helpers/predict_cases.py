"""What the tests of predictions predict."""

import numpy as np

import gptj
from installed import FRAMEWORKS
from models import tiny_model
from prediction_cases import (
    ANSWERS,
    CLASSES,
    SMALL,
    TEXTS,
    make_tokenizer,
)

FIRST = FRAMEWORKS[0] if FRAMEWORKS else "numpy"
TOKENIZER = make_tokenizer()
LONG = " ".join(f"w{7 * number % 59}" for number in range(150))
QUESTION = "w58 w3"


def classified(backend, texts=TEXTS, **options):
    """Return what a tiny classification says; `options` of `predict` and of the configuration."""
    own = {key: options.pop(key) for key in ("batch_size", "length", "truncate") if key in options}
    model = tiny_model(backend, CLASSES, **SMALL, **options)
    return gptj.predict(texts, model, tokenizer=TOKENIZER, **own)


def answered(backend, contexts, question=QUESTION, **options):
    model = tiny_model(backend, ANSWERS, **SMALL)
    return gptj.predict(contexts, model, tokenizer=TOKENIZER, question=question, **options)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()
