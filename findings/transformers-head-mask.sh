#!/usr/bin/env bash
# transformers' GPT-J takes a head mask, and computes with all heads.
#
# With:  transformers 5.23.0, PyTorch 2.13.0
# Valid: `model(ids, head_mask=zeros of (layers, heads))`, an argument of GPT-J's forward up to 4.56.2,
#        where it changed the logits; studies that prune heads pass it
# Seen:  the logits are those without it, to the bit, with no error and no warning; a misspelt
#        argument is taken alike
# Due:   the masked logits, or a TypeError for an argument that is not there any more
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import warnings

import torch
from transformers import GPTJConfig, GPTJForCausalLM

torch.manual_seed(0)
model = GPTJForCausalLM(
    GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=16, n_layer=2, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1,
    )
).eval()
ids = torch.tensor([[3, 4, 5, 6]])
with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter("error")
    plain = model(ids).logits
    masked = model(ids, head_mask=torch.zeros(2, 2)).logits
    misspelt = model(ids, atention_mask=torch.ones(1, 4)).logits
    for block in model.transformer.h:  # what a mask of zeros means
        block.attn.out_proj.weight.zero_()
    due = model(ids).logits
print("with all heads masked the logits move by %.3f" % (masked - plain).abs().max())
print("without the heads they would by %.3f" % (due - plain).abs().max())
assert torch.equal(masked, plain), "transformers honours or refuses a head mask now"
assert torch.equal(misspelt, plain), "transformers refuses unknown arguments now"
assert (due - plain).abs().max() > 1e-3
PY
