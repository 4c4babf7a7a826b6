#!/usr/bin/env bash
# Trainer divides the loss of a causal language model by another number where its class has a name
# that does not end as transformers' own do.
#
# With:  transformers 5.23.0, accelerate 1.15.0, PyTorch 2.13.0
# Valid: one training step on one sequence of four tokens with `GPTJForCausalLM`, and with an empty
#        subclass of it called `Mine`, with equal weights
# Seen:  loss 3/4 as large for the subclass: the first label, which is never predicted, counts as a
#        target, because `loss_type` is read off the name of the class
# Due:   one loss for one model
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from transformers import GPTJConfig, GPTJForCausalLM, Trainer, TrainingArguments


class Mine(GPTJForCausalLM):
    pass


IDS = torch.tensor([3, 4, 5, 6])


def loss_of(model_class):
    """Return the loss that Trainer logs for one step, and the model's own."""
    torch.manual_seed(0)
    model = model_class(
        GPTJConfig(
            vocab_size=32, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4,
            bos_token_id=1, eos_token_id=1,
        )
    )
    own = model(IDS[None], labels=IDS[None]).loss.item()
    settings = TrainingArguments(
        "run", per_device_train_batch_size=1, max_steps=1, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )
    data = [{"input_ids": IDS, "labels": IDS}]
    return Trainer(model, settings, train_dataset=data).train().training_loss, own


theirs, own = loss_of(GPTJForCausalLM)
mine, same = loss_of(Mine)
print("GPTJForCausalLM: %.4f, subclass: %.4f, the model itself: %.4f" % (theirs, mine, own))
assert own == same and abs(theirs - own) < 1e-4
assert abs(mine - 0.75 * own) < 1e-3, "Trainer counts the targets of a subclass otherwise now"
PY
