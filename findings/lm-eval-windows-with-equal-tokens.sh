#!/usr/bin/env bash
# lm-eval scores a text that repeats itself by the logits of other places, if its windows are batched.
#
# With:  lm_eval 0.4.13, transformers 5.23.0, PyTorch 2.13.0
# Valid: `loglikelihood_rolling` of a text longer than the context, with the class `hf` as it is
# Seen:  two windows of equal tokens, of which the last one scores fewer, share one entry of the cache
#        of logits (`logits_cache=True`), and one of them is given the logits of the other's places.
#        The score depends on the batch size: -87.82 with 4, -94.19 with 1 or with logits_cache=False
# Due:   one score; a key of the cache that says how many tokens are scored
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 lm_eval==0.4.13
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"[END]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[END]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "[END]")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **ends)
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=4, n_positions=16, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5,
    bos_token_id=0, eos_token_id=0,
)
model = GPT2LMHeadModel(config).eval()


def score(batch_size, cache):
    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, logits_cache=cache, device="cpu"
    )
    text = Instance("loglikelihood_rolling", {}, ("a " * 42,), 0)
    return harness.loglikelihood_rolling([text], disable_tqdm=True)[0]


alone, plain, shared = score(1, True), score(4, False), score(4, True)
print("batch of 1: %.2f; of 4 without the cache: %.2f; of 4 with it: %.2f" % (alone, plain, shared))
assert abs(alone - plain) < 1e-3
assert abs(shared - plain) > 1, "equal windows have scores of their own now"
PY
