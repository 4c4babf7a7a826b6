#!/usr/bin/env bash
# CTranslate2's converter drops GPT-J's layer_norm_epsilon, and its runtime computes with 1e-5.
#
# With:  CTranslate2 4.8.5, transformers 5.23.0, PyTorch 2.13.0
# Valid: `TransformersConverter` on a GPT-J folder of transformers with `layer_norm_epsilon` 0.01
# Seen:  no warning; `layer_norm_epsilon` is null in the converted config.json, and the logits are off
#        by 0.3. They are those of the same weights with an epsilon of 1e-5. (The runtime has the
#        option: the number, written into that file by hand, is used.)
# Due:   the number of the configuration
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 ctranslate2==4.8.5
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import json
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, models
from transformers import GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
words = [f"w{number}" for number in range(32)]
model = GPTJForCausalLM(
    GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=32, n_layer=2, n_head=2, rotary_dim=8,
        bos_token_id=1, eos_token_id=1, layer_norm_epsilon=0.01, tie_word_embeddings=False,
    )
).eval()
model.save_pretrained("model")
vocabulary = {word: number for number, word in enumerate(words)}
PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")),
    bos_token="w1", eos_token="w1", unk_token="w0",
).save_pretrained("model")
TransformersConverter("model").convert("converted")
written = json.loads(Path("converted/config.json").read_text())["layer_norm_epsilon"]


def logits():
    with torch.no_grad():
        return model(torch.tensor([range(2, 12)])).logits.numpy()


def converted():
    generator = ctranslate2.Generator("converted", device="cpu", compute_type="float32")
    return np.array(generator.forward_batch([words[2:12]]))


found, right = converted(), logits()
for module in model.modules():
    if isinstance(module, torch.nn.LayerNorm):
        module.eps = 1e-5
off, other = abs(found - right).max(), abs(found - logits()).max()
print(f"written: {written}; off by {off:.2f} with 0.01 in the model, by {other:.0e} with 1e-5")
content = json.loads(Path("converted/config.json").read_text()) | {"layer_norm_epsilon": 0.01}
Path("converted/config.json").write_text(json.dumps(content))
mended = abs(converted() - right).max()
print(f"with the number put in by hand: off by {mended:.0e}")
assert written is None and off > 0.1 and other < 1e-5 and mended < 1e-5, "another epsilon now"
PY
