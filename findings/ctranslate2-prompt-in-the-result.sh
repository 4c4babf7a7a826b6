#!/usr/bin/env bash
# CTranslate2's `include_prompt_in_result=False` does not keep the prompt out beside a short one.
#
# With:  CTranslate2 4.8.5, NumPy 2.3.5
# Valid: `generate_batch` with `include_prompt_in_result=False` on prompts of one and of three tokens
# Seen:  the result of the longer prompt begins with its own second and third token, which count
#        towards max_length, so two new tokens are missing. Alone, it is continued as asked; so it is
#        beside one of four tokens.
# Due:   the new tokens alone, as many as for the prompt alone
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ctranslate2==4.8.5 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec
from ctranslate2.specs.common_spec import Activation

random = np.random.default_rng(0)


def drawn(*shape):
    return random.normal(scale=0.5, size=shape).astype(np.float32)


def set_norm(norm):
    norm.gamma, norm.beta = 1 + drawn(32), drawn(32)


spec = TransformerDecoderModelSpec.from_config(
    1, 2, pre_norm=True, activation=Activation.GELU, rotary_dim=8, rotary_interleave=False,
    parallel_residual=True, shared_layer_norm=True,
)
decoder, (layer,) = spec.decoder, spec.decoder.layer
decoder.scale_embeddings = False
decoder.embeddings.weight = drawn(32, 32)
decoder.projection.weight, decoder.projection.bias = drawn(32, 32), drawn(32)
set_norm(decoder.layer_norm)
set_norm(layer.shared_layer_norm)
layer.self_attention.linear[0].weight = drawn(96, 32)
layer.self_attention.linear[1].weight = drawn(32, 32)
layer.ffn.linear_0.weight, layer.ffn.linear_0.bias = drawn(128, 32), drawn(128)
layer.ffn.linear_1.weight, layer.ffn.linear_1.bias = drawn(32, 128), drawn(32)
words = [f"w{number}" for number in range(32)]
spec.register_vocabulary(words)
spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "w31"
spec.validate()
spec.optimize()
spec.save(".")
generator = ctranslate2.Generator(".", device="cpu", compute_type="float32")


def continued(*prompts):
    results = generator.generate_batch(
        list(prompts), max_length=4, include_prompt_in_result=False, end_token=[]
    )
    return [result.sequences[0] for result in results]


one, three, four = words[3:4], words[4:7], words[7:11]
(alone,), (_, beside), (whole, _) = continued(three), continued(one, three), continued(three, four)
print(f"{three} alone: {alone}; beside {one}: {beside}; beside {four}: {whole}")
assert whole == alone, "beside a longer prompt something else is wrong"
assert beside == three[1:] + alone[:2], "the prompt is kept out now"
PY
