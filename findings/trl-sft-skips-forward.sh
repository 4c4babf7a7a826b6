#!/usr/bin/env bash
# TRL's SFTTrainer trains without the forward of the model that it is given, nor that of its head.
#
# With:  TRL 1.16.0, transformers 5.23.0, PyTorch 2.13.0
# Valid: a subclass of `GPTJForCausalLM` whose forward scales its loss by 100, with a forward hook
#        on `lm_head`, trained for one step by `SFTTrainer` with its default `loss_type`
# Seen:  neither the forward nor the hook runs; the loss is that of the base model and the head's
#        weight, so an own loss, an own head or an observed one takes no part, without a word
# Due:   a call of the forward, or an error where it is not the one that the trainer replaces
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 trl==1.16.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32)}, unk_token="w0"))
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token="w0", eos_token="w1", pad_token="w1"
)
called = []


class Scaled(GPTJForCausalLM):
    def forward(self, *args, **kwargs):
        called.append("forward")
        output = super().forward(*args, **kwargs)
        output.loss = None if output.loss is None else 100 * output.loss
        return output


torch.manual_seed(0)
model = Scaled(
    GPTJConfig(
        vocab_size=32, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4,
        bos_token_id=1, eos_token_id=1,
    )
)
model.lm_head.register_forward_hook(lambda *_: called.append("lm_head"))
ids = torch.tensor([[3, 4, 5, 6]])
own = model(ids, labels=ids).loss.item()
assert called == ["forward", "lm_head"]
called.clear()

settings = SFTConfig(
    "run", per_device_train_batch_size=1, max_steps=1, logging_steps=1, report_to=[],
    use_cpu=True, bf16=False, save_strategy="no",
)
data = Dataset.from_dict({"input_ids": ids.tolist()})
trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer)
trainer.train()
logged = float(trainer.state.log_history[0]["loss"])
print(f"the model's own loss {own:.1f}, what was trained on {logged:.3f}; called: {called}")
assert logged < own / 50
assert not called, "SFTTrainer calls the model now"
PY
