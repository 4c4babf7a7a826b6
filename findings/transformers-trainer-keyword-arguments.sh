#!/usr/bin/env bash
# Trainer takes a forward with `**kwargs` for one that divides its loss by the targets of the batch.
#
# With:  transformers 5.23.0, accelerate 1.15.0, PyTorch 2.13.0
# Valid: a module whose forward returns a mean loss and takes arguments that it does not use in
#        `**kwargs`, trained with `gradient_accumulation_steps=8`
# Seen:  the gradient is 8 times that of the same forward without `**kwargs`, as Trainer hands over
#        `num_items_in_batch` and leaves out its own division. A forward that names
#        `num_items_in_batch` without `**kwargs` never gets it: it stays None. Its own GPT-J with a
#        classification head is such a forward: loss and gradient are 8 times those of one batch of 8
# Due:   the number for a forward that names it, and the division for one that does not
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import torch
from transformers import GPTJConfig, GPTJForSequenceClassification, Trainer, TrainingArguments


class Mean(torch.nn.Module):
    """Its loss is its weight, whose gradient is 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        return {"loss": (self.weight * x).mean()}


class WithKeywords(Mean):
    def forward(self, x, labels=None, **kwargs):
        return super().forward(x)


class Named(Mean):
    handed = "nothing yet"

    def forward(self, x, labels=None, num_items_in_batch=None):
        Named.handed = num_items_in_batch
        return super().forward(x)


def step(model):
    """Return by how many learning rates one step of eight accumulated batches moves the weight."""
    settings = TrainingArguments(
        "run", per_device_train_batch_size=1, gradient_accumulation_steps=8, max_steps=1,
        optim="sgd", learning_rate=0.01, lr_scheduler_type="constant", max_grad_norm=0,
        report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
    )
    data = [{"x": torch.ones(2), "labels": torch.ones(2, dtype=torch.long)}] * 8
    Trainer(model, settings, train_dataset=data).train()
    return (1 - model.weight.item()) / 0.01


def classified(batch_size):
    """Return the loss that eight examples are logged with, and how far they move the head."""
    torch.manual_seed(0)
    config = GPTJConfig(
        vocab_size=20, n_embd=16, n_layer=1, n_head=2, rotary_dim=4, n_positions=8, num_labels=2,
        pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0,
    )
    model = GPTJForSequenceClassification(config)
    before = model.score.weight.detach().clone()
    settings = TrainingArguments(
        "run", per_device_train_batch_size=batch_size, gradient_accumulation_steps=8 // batch_size,
        max_steps=1, optim="sgd", learning_rate=0.01, lr_scheduler_type="constant",
        max_grad_norm=0, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
        logging_steps=1,
    )
    data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": 1}] * 8
    trainer = Trainer(model, settings, train_dataset=data)
    trainer.train()
    return trainer.state.log_history[0]["loss"], (model.score.weight - before).norm().item()


plain, keywords, named = step(Mean()), step(WithKeywords()), step(Named())
print("step without keywords %.2f, with **kwargs %.2f" % (plain, keywords))
(loss, moved), (loss_of_parts, moved_by_parts) = classified(8), classified(1)
print("GPT-J's classification: loss %.2f in one batch, %.2f in eight" % (loss, loss_of_parts))
print("num_items_in_batch as a named argument:", Named.handed)
assert abs(plain - 1) < 1e-3 and abs(named - 1) < 1e-3
assert abs(keywords - 8) < 1e-3, "Trainer does otherwise now"
assert abs(loss_of_parts / loss - 8) < 1e-2 and abs(moved_by_parts / moved - 8) < 1e-2
assert Named.handed is None, "Trainer hands the number to a named argument now"
PY
