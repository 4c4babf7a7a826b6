#!/usr/bin/env bash
# transformers pads a mask of the new tokens beside a cache on the wrong side, and hides those tokens.
#
# With:  transformers 5.23.0, PyTorch 2.13.0
# Valid: `model(ids, past_key_values=cache, attention_mask=ones)` with a mask of the new tokens alone,
#        as published programs for editing GPT-J call it
# Seen:  no error, and other logits than for the whole sequence: the mask is filled up with zeros on
#        its right, so that it covers the cached tokens. Without a mask, and with one for all tokens, the
#        logits are right
# Due:   the right logits, or an error about the shape
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from transformers import GPTJConfig, GPTJForCausalLM

torch.manual_seed(0)
model = GPTJForCausalLM(
    GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=16, n_layer=2, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1,
    )
).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
ids = torch.tensor([[3, 4, 5, 6, 7, 8]])


@torch.no_grad()
def error(mask):
    """Return how far the logits of two tokens after a cache of four are from those of all six."""
    cache = model(ids[:, :4], use_cache=True).past_key_values
    found = model(ids[:, 4:], past_key_values=cache, attention_mask=mask).logits
    return (found - model(ids).logits[:, 4:]).abs().max().item()


none, every, new = error(None), error(torch.ones(1, 6)), error(torch.ones(1, 2))
print("off by %.1e without a mask, %.1e with all tokens', %.2f with the new tokens'" % (none, every, new))
assert none < 1e-5 and every < 1e-5
assert new > 0.1, "transformers takes or refuses a mask of the new tokens now"
PY
