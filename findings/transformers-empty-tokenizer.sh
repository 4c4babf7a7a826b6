#!/usr/bin/env bash
# transformers makes an empty tokenizer of a GPT-J folder that has none, and every text is nothing.
#
# With:  transformers 5.23.0
# Valid: `AutoTokenizer.from_pretrained` of a folder with the `config.json` of a GPT-J and no file of a
#        tokenizer, as `model.save_pretrained` writes it
# Seen:  a tokenizer of one token; it encodes every text to no ids, without an error
# Due:   an error that names the missing files
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
from transformers import AutoTokenizer, GPTJConfig

GPTJConfig().save_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")
found = tokenizer("import os")["input_ids"]
print("class %s, %d tokens; 'import os' is %s" % (type(tokenizer).__name__, len(tokenizer), found))
assert found == [], "transformers encodes or refuses now"
PY
