#!/usr/bin/env bash
# onnxruntime-genai continues a prompt that ends with the pad token from the token before that.
#
# With:  onnxruntime-genai 0.18.0, onnxruntime 1.32.0
# Valid: one prompt, without padding, that ends with the pad token: it is often the end token too, and a
#        text may begin after an end token
# Seen:  the model says n + 1 after n; after 5, 6, 7 genai writes 8, and 7 where the pad token is 7: the
#        logits are those of 6. Nothing is said.
# Due:   what is padding should be the caller's word, or count in a batch alone; until then, a pad token
#        that no prompt has
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export ORT_DISABLE_TELEMETRY=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime-genai==0.18.0 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import json
import numpy as np
import onnxruntime_genai as genai
from onnx import TensorProto, helper, save

WORDS = 16  # the most likely token after n is n + 1
nodes = [
    helper.make_node("Add", ["input_ids", "one"], ["likeliest"]),
    helper.make_node("OneHot", ["likeliest", "words", "values"], ["logits"]),
    helper.make_node("Cast", ["input_ids"], ["new"], to=TensorProto.FLOAT),
    helper.make_node("Unsqueeze", ["new", "axes"], ["state"]),
]
nodes += [
    helper.make_node("Concat", [f"past_key_values.0.{part}", "state"], [f"present.0.{part}"], axis=2)
    for part in ("key", "value")
]
constants = {"one": [1], "words": [WORDS], "axes": [1, 3]}
tensors = [
    helper.make_tensor(name, TensorProto.INT64, [len(value)], value)
    for name, value in constants.items()
] + [helper.make_tensor("values", TensorProto.FLOAT, [2], [0.0, 1.0])]
integer, floats = TensorProto.INT64, TensorProto.FLOAT
value = helper.make_tensor_value_info
inputs = [value("input_ids", integer, ["B", "T"])]
inputs += [value(f"past_key_values.0.{part}", floats, ["B", 1, "P", 1]) for part in ("key", "value")]
outputs = [value("logits", floats, ["B", "T", WORDS])]
outputs += [value(f"present.0.{part}", floats, ["B", 1, "S", 1]) for part in ("key", "value")]
graph = helper.make_graph(nodes, "decoder", inputs, outputs, tensors)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), "model.onnx")

decoder = {
    "filename": "model.onnx", "head_size": 1, "hidden_size": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "num_hidden_layers": 1,
    "inputs": {
        "input_ids": "input_ids",
        "past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value",
    },
    "outputs": {
        "logits": "logits", "present_key_names": "present.%d.key",
        "present_value_names": "present.%d.value",
    },
}


def next_token(prompt, pad):
    model = {
        "type": "decoder", "context_length": 8, "vocab_size": WORDS, "bos_token_id": 0,
        "eos_token_id": 0, "pad_token_id": pad, "decoder": decoder,
    }
    search = {"max_length": 8, "past_present_share_buffer": False}
    with open("genai_config.json", "w") as file:
        json.dump({"model": model, "search": search}, file)
    loaded = genai.Model(".")
    generator = genai.Generator(loaded, genai.GeneratorParams(loaded))
    generator.append_tokens(np.array(prompt, np.int32))
    generator.generate_next_token()
    return int(generator.get_sequence(0)[-1])


found = {pad: next_token([5, 6, 7], pad) for pad in (9, 7, 5)}
print("the token after 5, 6, 7, by pad_token_id:", found)
assert found == {9: 8, 7: 7, 5: 8}, "onnxruntime-genai continues such a prompt otherwise now"
PY
