"""A language model whose logits are a function of the text, and a tokenizer of a few pieces.

The plugged-in backend only calls its models, so that a stand-in without weights runs on it: no
framework is needed, and what the model was asked is on record.
"""

from functools import cache

import numpy as np

from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.generating import TextGeneration
from gptj.spec.outputs import ModelOutput
from gptj_oracle import BACKEND

VOCAB = 5
END = VOCAB - 1


def small_config(vocab=VOCAB, **changes):
    """Return a configuration whose last token ends a text."""
    end = {"bos_token_id": vocab - 1, "eos_token_id": vocab - 1}
    sizes = {"n_positions": 64, "n_embd": 4, "n_layer": 1, "n_head": 1, "rotary_dim": 4}
    return GPTJConfig(vocab_size=vocab, **{**sizes, **end, **changes})


def options_and_plan(vocab=VOCAB, prompt_length=1, **options):
    """Return options and the plan they make."""
    config = small_config(vocab)
    settings = GenerationConfig.from_model(config).updated(**options)
    return settings, make_plan(settings, prompt_length, config)


class TextCache:
    """The tokens of earlier calls, (B, length), in the place of their keys and values."""

    def __init__(self, tokens):
        self.tokens = tokens

    @property
    def length(self):
        return self.tokens.shape[1]

    def gather(self, rows):
        return TextCache(self.tokens[rows])

    def crop(self, length):
        return TextCache(self.tokens[:, :length])

    def frozen(self):
        return self


class Scripted(TextGeneration):
    """A model that looks its logits up: `logits` is a function of a text's attended tokens.

    `runs` has the shape of the ids of every call.
    """

    backend, backend_name, head = BACKEND, "oracle", "causal_lm"
    own_options, source_folder = None, None

    def __init__(self, logits, vocab=VOCAB, **config):
        self.logits, self.config = logits, small_config(vocab, **config)
        self.runs = []

    def init_cache(self, batch, max_length):
        return TextCache(np.empty((batch, 0), np.int64))

    def __call__(
        self, input_ids, attention_mask, use_cache, logits_to_keep, past_key_values=None, **flags
    ):
        self.runs.append(input_ids.shape)
        past = past_key_values.tokens if use_cache else input_ids[:, :0]
        ids = np.hstack((past, input_ids))
        mask = attention_mask[:, : ids.shape[1]] != 0
        logits = [
            [
                self.logits(tuple(row[:end][kept[:end]].tolist()))
                for end in _last(row, logits_to_keep)
            ]
            for row, kept in zip(ids, mask, strict=True)
        ]
        states = np.eye(self.config.vocab_size, dtype=np.float32)[input_ids]
        return ModelOutput(
            logits=np.float32(logits),
            past_key_values=TextCache(ids) if use_cache else None,
            hidden_states=(states,) if flags.get("output_hidden_states") else None,
        )


def _last(row, keep):
    return range(len(row) - keep + 1, len(row) + 1)


def saying(text, vocab=VOCAB):
    """Return logits that write these tokens, whatever the prompt of one token is, then the end."""

    def logits(ids):
        place = len(ids) - 1
        token = text[place] if place < len(text) else vocab - 1
        return np.where(np.arange(vocab) == token, 4.0, 0.0)

    return logits


def drawn_table(seed, vocab=VOCAB):
    """Return logits that are fixed for every text, and look random."""

    @cache
    def logits(ids):
        state = np.random.Generator(np.random.PCG64([seed, len(ids), *ids]))
        return 2.0 * state.standard_normal(vocab)

    return logits


def continued(model, ids=((0,),), **options):
    """Return the new tokens of a call, as lists."""
    ids = np.array(ids)
    return model.generate(ids, **options)[:, ids.shape[1] :].tolist()


class Pieces:
    """A tokenizer whose tokens are given texts or bytes; the last one is special."""

    def __init__(self, *pieces):
        self.pieces = [one if isinstance(one, bytes) else one.encode() for one in pieces]

    def encode(self, text):
        return [self.pieces.index(letter.encode()) for letter in text]

    def decode(self, ids, skip_special_tokens=False):
        shown = [i for i in ids if not (skip_special_tokens and i == len(self.pieces) - 1)]
        return b"".join(self.pieces[i] for i in shown).decode(errors="replace")
