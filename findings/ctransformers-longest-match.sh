#!/usr/bin/env bash
# ctransformers gives a GPT-J file other tokens than the model was trained with: no BPE, longest match.
#
# With:  ctransformers 0.2.27, tokenizers 0.23.3
# Valid: a GPT-J file in ggml's form with a vocabulary of byte pairs, and `model.tokenize(text)`
# Seen:  "abc" with the merges b + c, a + b in this order is a, bc in BPE; ctransformers says ab, c. The
#        form has no room for merges, so each step takes the longest word that fits. The logits of
#        given ids are right: only a text shows it, and nothing is said.
# Due:   a word in its page; until then, ids from the model's own tokenizer
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ctransformers==0.2.27 tokenizers==0.23.3 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import struct

import numpy as np
from ctransformers import AutoModelForCausalLM
from tokenizers import Tokenizer, models

words = ["a", "b", "c", "ab", "bc", "</s>"]
vocabulary = {word: number for number, word in enumerate(words)}
expected = Tokenizer(models.BPE(vocab=vocabulary, merges=[("b", "c"), ("a", "b")])).encode("abc").ids

V, E, F = len(words), 32, 128
shapes = {
    "transformer.wte.weight": (V, E), "transformer.ln_f.weight": (E,), "transformer.ln_f.bias": (E,),
    "lm_head.weight": (V, E), "lm_head.bias": (V,),
}
block = {f"attn.{part}_proj.weight": (E, E) for part in ("q", "k", "v", "out")} | {
    "ln_1.weight": (E,), "ln_1.bias": (E,), "mlp.fc_in.weight": (F, E), "mlp.fc_in.bias": (F,),
    "mlp.fc_out.weight": (E, F), "mlp.fc_out.bias": (E,),
}
shapes |= {f"transformer.h.0.{name}": shape for name, shape in block.items()}
draw = np.random.default_rng(0)
with open("model.bin", "wb") as file:
    # magic; words, positions, width, heads, layers, rotary size, float32; words again
    file.write(struct.pack("<I8i", 0x67676D6C, V, 64, E, 2, 1, 8, 0, V))
    for word in words:
        file.write(struct.pack("<i", len(word)) + word.encode())
    for name, shape in shapes.items():
        file.write(struct.pack(f"<{3 + len(shape)}i", len(shape), len(name), 0, *shape[::-1]))
        file.write(name.encode() + draw.standard_normal(shape).astype("<f4").tobytes())

model = AutoModelForCausalLM.from_pretrained("model.bin", model_type="gptj", local_files_only=True)
found = model.tokenize("abc")
print("BPE:", [words[i] for i in expected], "ctransformers:", [words[i] for i in found])
assert expected == [0, 4] and found == [3, 2], "ctransformers cuts texts otherwise now"
PY
