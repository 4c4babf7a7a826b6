"""Data for trainings that follow a rule, so that a model can learn all of it."""

import json
import random

OPERATORS = {"+": "sum", "-": "difference", "*": "product", "%": "remainder"}
NAMES = ["a", "b", "value", "other", "left", "right", "x", "y", "first", "last", "n", "count"]


def write_functions(path, count, seed):
    """Write lines with a function and, as its label, what it computes."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        name, first, second = chance.sample(NAMES, 3)
        sign = chance.choice(list(OPERATORS))
        text = f"def {name}({first}, {second}):\n    return {first} {sign} {second}"
        lines.append(json.dumps({"text": text, "label": OPERATORS[sign]}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_questions(path, count, seed):
    """Write contexts of assignments, each with a question for one of the values."""
    chance = random.Random(seed)
    lines = []
    for number in range(count):
        names = chance.sample(NAMES, 4)
        values = [str(chance.randint(10, 99)) for _ in names]
        context = "".join(f"{name} = {value}\n" for name, value in zip(names, values, strict=True))
        asked = chance.randrange(4)
        start = context.index(f"{names[asked]} = {values[asked]}\n") + len(names[asked]) + 3
        lines.append(
            {
                "id": str(number),
                "question": names[asked],
                "context": context,
                "answers": {"text": [values[asked]], "answer_start": [start]},
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_sentences(path, count, seed):
    """Write paragraphs about colours, which the demo model has not seen."""
    chance = random.Random(seed)
    colours, things = ["red", "green", "blue"], ["house", "tree", "boat", "door"]
    paragraphs = [
        " ".join(
            f"The {chance.choice(things)} is {chance.choice(colours)}."
            for _ in range(chance.randint(2, 6))
        )
        for _ in range(count)
    ]
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return path
