#!/usr/bin/env bash
# torchao's quantize_ separates a head from the word table that it shares, and says nothing.
#
# With:  torchao 0.18.0, transformers 5.23.0, PyTorch 2.13.0
# Valid: `quantize_` with `Int8WeightOnlyConfig` on a `GPTJForCausalLM` with tied embeddings
# Seen:  `lm_head.weight` becomes a tensor apart, the word table keeps its float one: memory grows
#        where it should shrink, the configuration still says "tied", no warning
# Due:   one tensor for both, or a warning
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 torchao==0.18.0
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import warnings

from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import GPTJConfig, GPTJForCausalLM

model = GPTJForCausalLM(
    GPTJConfig(
        vocab_size=512, n_positions=32, n_embd=32, n_layer=1, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1, tie_word_embeddings=True,
    )
)


def stored():
    """Return the bytes of the word table and the head, counting what they share once."""
    tensors = {id(w): w for w in (model.transformer.wte.weight, model.lm_head.weight)}
    parts = [[w.qdata, w.scale] if hasattr(w, "qdata") else [w] for w in tensors.values()]
    return len(tensors), sum(t.numel() * t.element_size() for part in parts for t in part)


before = stored()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    quantize_(model, Int8WeightOnlyConfig())
after = stored()
about_ties = [str(w.message) for w in said if "tie" in str(w.message).lower()]
print("before: %d tensor, %d bytes" % before)
print("after:  %d tensors, %d bytes; warnings: %s" % (*after, about_ties))
assert before == (1, 512 * 32 * 4)
assert after[0] == 2 and after[1] > before[1], "torchao keeps the tie now"
assert model.config.tie_word_embeddings and not about_ties
PY
