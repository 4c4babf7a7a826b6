#!/usr/bin/env bash
# A LoRA adapter on a tied word table is merged into another model than was trained, without a word.
#
# With:  peft 0.21.2, transformers 5.23.0, PyTorch 2.13.0
# Valid: `merge_and_unload` of a LoRA adapter with `target_modules=["wte"]` on a `GPTJForCausalLM`
#        with tied embeddings, which `get_peft_model` accepts
# Seen:  before, the adapter changes the embeddings and not the head; after, it is in the weight that
#        both share, and the logits are others, by more than their size; no warning. Untied, and with
#        `modules_to_save=["wte"]`, which unties with a warning, the merge keeps the logits
# Due:   untie as there, or refuse
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPTJConfig, GPTJForCausalLM

IDS = torch.tensor([[5, 6, 7, 8]])


@torch.no_grad()
def moved(tied, **options):
    """Return how far a merge moves the logits, as a part of their size, and what it warns of."""
    torch.manual_seed(0)
    config = GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1, tie_word_embeddings=tied, initializer_range=1.0,
    )
    adapter = LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = get_peft_model(GPTJForCausalLM(config).eval(), adapter).eval()
        before = model(IDS).logits
        after = model.merge_and_unload()(IDS).logits
    about_ties = [warning for warning in said if "tie" in str(warning.message).lower()]
    return ((after - before).abs().max() / before.abs().max()).item(), len(about_ties)


tied, untied = moved(True, target_modules=["wte"]), moved(False, target_modules=["wte"])
saved = moved(True, target_modules=["q_proj"], modules_to_save=["wte"])
print("tied, LoRA on wte:     %.2g of the logits, %d warnings" % tied)
print("untied, LoRA on wte:   %.2g of the logits, %d warnings" % untied)
print("tied, a copy of wte:   %.2g of the logits, %d warnings" % saved)
assert untied[0] < 1e-4 and saved[0] < 1e-4 and saved[1] >= 1
assert tied[0] > 1 and tied[1] == 0, "peft treats a tied table otherwise now"
PY
