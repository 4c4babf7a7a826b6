"""Small models that classify and answer, with a tokenizer of sixty words."""

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.tensors import LazyTensor
from gptj.tokenizer import GPTJTokenizer
from models import oracle, tiny_config, tiny_weights

WORDS = [f"w{number}" for number in range(60)]
SMALL = {"n_layer": 1}
CLASSES = "sequence_classification"
ANSWERS = "question_answering"
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14", "w4 w4"]


def make_tokenizer():
    """Return a tokenizer whose tokens are words: w7 has the id 7."""
    bpe = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, "w0"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return GPTJTokenizer(bpe)


def ids_of(text):
    """Return the ids of a text as a batch of one, (1, T)."""
    return np.array([[int(word[1:]) for word in text.split()]])


def logits_of(ids, head, **changes):
    """Return what the oracle says of one sequence alone."""
    return oracle(head, tuple({**SMALL, **changes}.items()), input_ids=ids)


def save_model(folder, head, *, fields=None, **changes):
    """Write a tiny model with its tokenizer; no weight depends on `fields` of its configuration."""
    changes = {**SMALL, **changes}
    fields = {"architectures": [find_head(head).class_name], **(fields or {})}
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict(), **fields)
    tensors = {n: LazyTensor.of(w) for n, w in tiny_weights(head, **changes).items()}
    save_checkpoint(folder, config, GenerationConfig(), tensors)
    make_tokenizer().save_pretrained(folder)
    return folder
