"""A training script for transformers 4.x, of which only the imports have changed, in PyTorch.

It tunes a language model, or a classifier with `--labels`, on lines of Python's standard library:
a `DataLoader`, a collator of its own, AdamW with and without weight decay, a schedule. With
`from transformers import ...` in the place of `from gptj import ...` it prints the same losses.

    python examples/from_transformers_torch.py
    python examples/from_transformers_torch.py --labels 2 --steps 10

It takes a minute on two cores.
"""

import sysconfig
from pathlib import Path

import click
import torch
from torch.utils.data import DataLoader

from gptj import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

LENGTH = 32  # tokens of an example


def read_examples(tokenizer, count: int, labels: int) -> list[dict]:
    """Return encoded lines; the class of a line is how long it is."""
    source = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    encoded = tokenizer(
        lines[:count], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    examples = []
    for line, ids, mask in zip(
        lines, encoded["input_ids"], encoded["attention_mask"], strict=False
    ):
        label = torch.tensor(min(len(line) // 40, labels - 1)) if labels else ids.clone()
        if not labels:
            label[mask == 0] = -100
        examples.append({"input_ids": ids, "attention_mask": mask, "labels": label})
    return examples


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    """Return a batch of examples."""
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def parameter_groups(model) -> list[dict]:
    """Return the parameters that decay, and those that do not."""
    no_decay = ["bias", "ln_1.weight", "ln_f.weight"]
    decays = {n: p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)}
    rest = [p for n, p in model.named_parameters() if n not in decays]
    return [
        {"params": list(decays.values()), "weight_decay": 0.01},
        {"params": rest, "weight_decay": 0.0},
    ]


def make_model(name: str, tokenizer, labels: int):
    """Return a pretrained model with the head that is wanted; what is new is drawn by a seed."""
    config = AutoConfig.from_pretrained(name, num_labels=max(labels, 2))
    config.pad_token_id = tokenizer.pad_token_id
    cls = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    model = cls.from_pretrained(name, config=config)
    torch.manual_seed(0)
    if labels:
        torch.nn.init.normal_(model.score.weight, std=0.02)
    return model


def train(model, loader: DataLoader, device: torch.device) -> None:
    """Train a model on the batches of a loader."""
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(1 - step / len(loader), 0)
    )
    model.to(device).train()
    for step, batch in enumerate(loader, 1):
        loss = model(**{key: value.to(device) for key, value in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        print(f"step {step}, loss {loss.item():.5f}", flush=True)


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder.")
@click.option("--steps", default=30)
@click.option("--labels", default=0, help="Number of classes; 0 trains a language model.")
@click.option("--batch-size", default=8)
@click.option("--out", type=click.Path(path_type=Path), default="runs/from_transformers_torch")
def main(name: str, steps: int, labels: int, batch_size: int, out: Path) -> None:
    """Train a model, and save it with its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"  # the class is read at the last token
    model = make_model(name, tokenizer, labels)
    data = read_examples(tokenizer, steps * batch_size, labels)
    loader = DataLoader(data, shuffle=True, collate_fn=collate, batch_size=batch_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(model, loader, device)
    model.save_pretrained(out, is_main_process=True, save_function=torch.save)
    tokenizer.save_pretrained(out)
    model.eval()
    if labels:
        prompt = tokenizer("return self", return_tensors="pt").to(device)
        print("class", model(**prompt).logits.argmax(-1).item())
    else:
        prompt = tokenizer("def add", return_tensors="pt").to(device)
        written = model.generate(**prompt, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id)
        print("text", repr(tokenizer.batch_decode(written, skip_special_tokens=True)[0]))


if __name__ == "__main__":
    main()
