"""Answer questions with PyTorch: windows of long contexts, and answers joined again.

A context is a file of settings that is made by a rule: lines `name = value` with names of two
words. A question is one of the names, and its answer the value. Names and values are drawn again
for every context, so a model has to find the line and cannot know the answer by heart. Contexts
are longer than a sequence, so each question is asked of several overlapping windows, and the most
confident one answers.

    python examples/torch_question_answering.py
    python examples/torch_question_answering.py --steps 20 --contexts 50

It takes about three minutes on two cores, and prints losses, how many of the held-out questions are
answered exactly, and some answers.
"""

import json
import random
from pathlib import Path

import click
import torch
from torch.nn.utils import clip_grad_norm_

import gptj
from gptj.datasets import QuestionDataset

WORDS = """batch cache color cursor debug depth error event field file font frame height host image
index input label level limit line logger memory mode mouse output page path port query queue rate
retry scale screen server size socket speed start state table text thread timeout title token user
version width window worker""".split()
LINES, ASKED = 24, 4  # lines of a context, about 150 tokens; questions about each
ROW, STRIDE = 96, 16  # tokens of an example, and of what two examples share


def write_questions(path: Path, contexts: int) -> list[str]:
    """Write questions as JSON lines in SQuAD's form, and return their answers."""
    draw, answers = random.Random(0), []
    with path.open("w", encoding="utf-8") as file:
        for _ in range(contexts):
            names = {"_".join(draw.sample(WORDS, 2)) for _ in range(LINES)}
            values = {
                name: draw.choice([repr(draw.choice(WORDS)), str(draw.randrange(9999))])
                for name in sorted(names)
            }
            context = "".join(f"{name} = {value}\n" for name, value in values.items())
            for name in draw.sample(list(values), ASKED):
                start = f"\n{context}".index(f"\n{name} = ") + len(f"{name} = ")
                answer = {"text": [values[name]], "answer_start": [start]}
                line = {"question": f"{name}?\n", "context": context, "answers": answer}
                file.write(json.dumps(line) + "\n")
                answers.append(values[name])
    return answers


@torch.no_grad()
def answers_of(model, data: QuestionDataset) -> dict[int, str]:
    """Return the answer to every question by its number, from the window that is the surest."""
    best, number = {}, 0
    for batch in data.batches(64):
        ids, mask = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask"))
        output = model(ids, attention_mask=mask)
        starts, ends = output.start_logits, output.end_logits  # (B, T); "no answer" points to 0
        scores = starts.amax(1) + ends.amax(1) - starts[:, 0] - ends[:, 0]
        rows = torch.stack([scores, starts.argmax(1), ends.argmax(1)], dim=1).tolist()
        for score, start, end in rows:
            question, found = data.question_of(number), data.answer_text(number, start, end)
            best[question] = max(best.get(question, (0.0, "")), (score, found))
            number += 1
    return {question: text for question, (_, text) in best.items()}


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="demo", help="A name or a folder, as gptj.load takes it.")
@click.option("--steps", default=500)
@click.option("--contexts", default=1500, help="A twentieth of them is held out.")
@click.option("--batch-size", default=16)
@click.option("--out", type=click.Path(path_type=Path), default="runs/torch_question_answering")
def main(name: str, steps: int, contexts: int, batch_size: int, out: Path) -> None:
    """Train a model to find a name in a context, and save it."""
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    expected = write_questions(out / "questions.jsonl", contexts)
    data = gptj.question_dataset(
        out / "questions.jsonl",
        length=ROW,
        stride=STRIDE,
        no_answer="first",
        cache_dir=out / "cache",
    )
    train, held_out = data.split(0.05, seed=0)  # by context
    model = gptj.load(name, backend="torch", head="question_answering").train()
    model.transformer.wte.requires_grad_(False)  # most of the parameters, which can stay
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    batches = train.stream(batch_size, seed=1, drop_last=True)
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        loss = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step}, loss {loss.item():.3f}", flush=True)

    found = answers_of(model.eval(), held_out)
    right = sum(found[question] == expected[question] for question in found)
    print(f"{right} of {len(found)} held-out questions are answered exactly")
    for question in sorted(found)[:5]:
        print(f"found {found[question]!r}, expected {expected[question]!r}")
    model.save_pretrained(out / "model")


if __name__ == "__main__":
    main()
