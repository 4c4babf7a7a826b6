"""What fewer bits change: the demo model's perplexity and logits, in every backend.

    python benchmarks/quantization.py --report benchmarks/quantization.md

The text is the source of Python's `textwrap`. A logit's difference is that from the same
backend in float32; "first choice" says at how many positions the likeliest token is the same.
"""

import argparse
import inspect
import platform
import textwrap
from pathlib import Path

import numpy as np

import gptj
from gptj.backends import get_backend
from gptj.bench.table import table

BACKENDS = ("torch", "tf", "flax")
FORMS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "float32", "quantize": "int8"},
    "int8, computed in bfloat16": {"dtype": "bfloat16", "quantize": "int8"},
    "int4": {"dtype": "float32", "quantize": "int4"},
    "int4, computed in bfloat16": {"dtype": "bfloat16", "quantize": "int4"},
}
TITLES = ("backend", "weights", "perplexity", "mean difference", "largest", "first choice")
TEXT = inspect.getsource(textwrap)
TOKENS = 512


def measure(name):
    """Yield a row per form of the weights."""
    ids = gptj.load_tokenizer("demo")(TEXT, return_tensors="np")["input_ids"][:, :TOKENS]
    exact = None
    for form, options in FORMS.items():
        if form.startswith("int4") and "int4" not in get_backend(name).capabilities.quantization:
            continue
        model = gptj.load("demo", backend=name, **options)
        found = logits(name, model, ids)
        exact = found if exact is None else exact
        apart, same = np.abs(found - exact), (found.argmax(-1) == exact.argmax(-1)).mean()
        perplexity = model.score(TEXT, stride=256).perplexity
        yield [
            name,
            form,
            f"{perplexity:.4f}",
            f"{apart.mean():.4f}",
            f"{apart.max():.3f}",
            f"{same:.1%}",
        ]


def logits(name, model, ids):
    """Return the logits of a row of tokens as NumPy has them."""
    backend = get_backend(name)
    output = backend.forward(model, input_ids=backend.from_numpy(ids, model), use_cache=False)
    return np.asarray(backend.to_numpy(output.logits), np.float32)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    rows = [row for name in BACKENDS for row in measure(name)]
    lines = __doc__.split("\n\n")
    text = (
        f"# {lines[0]}\n\n`{lines[1].strip()}`, with Python {platform.python_version()}.\n\n"
        f"{lines[2].strip()}\n\n{table(TITLES, rows)}\n"
    )
    print(text)
    if options.report:
        options.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
