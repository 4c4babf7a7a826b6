#!/usr/bin/env bash
# transformers takes int8 weights for the numbers themselves: a quantized file loads, and is wrong.
#
# With:  transformers 5.23.0, safetensors 0.8.0, PyTorch 2.13.0
# Valid: `from_pretrained` of a folder whose matrices are int8 in safetensors, each with its scale
#        beside it under a name of its own, and a configuration without `quantization_config`
# Seen:  every int8 becomes a float32 of the same value; the scales are reported as unexpected, and
#        the logits are off by two orders of magnitude. (4.56.2 raises: only floating point can
#        require gradients.)
# Due:   an error that names a parameter whose file holds integers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTJConfig, GPTJForCausalLM

torch.manual_seed(0)
model = GPTJForCausalLM(
    GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1,
    )
)
model.save_pretrained("model")
stored = {}
for name, weight in load_file("model/model.safetensors").items():
    if weight.ndim == 2:
        scale = weight.abs().max() / 127
        stored[name] = (weight / scale).round().to(torch.int8)
        stored[name + "_scale"] = scale
    else:
        stored[name] = weight
save_file(stored, "model/model.safetensors", metadata={"format": "pt"})

loaded = GPTJForCausalLM.from_pretrained("model").eval()
ids = torch.tensor([[3, 4, 5]])
with torch.no_grad():
    right, wrong = model.eval()(ids).logits, loaded(ids).logits
name = "transformer.h.0.mlp.fc_in.weight"
weight = loaded.get_parameter(name)
print("loaded as:", weight.dtype, "from", stored[name].dtype)
print("largest logit: %.2f, should be %.2f" % (wrong.abs().max(), right.abs().max()))
assert torch.equal(weight, stored[name].float()), "transformers loads something else now"
assert wrong.abs().max() > 50 * right.abs().max()
PY
