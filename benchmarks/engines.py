"""Decoding in an engine as a backend, beside the same engine run by hand: what the backend costs.

    python benchmarks/engines.py --report benchmarks/engines.md

The model is "mid" of `compare_models.py`, 254 million freshly drawn parameters in float32; a prompt
of 32 tokens is continued by 32 greedy ones. By hand is a loop over the engine's own calls on the
files of `gptj export`, as the README in them has it. The two sides alternate in one process; the
ratio is that of the medians, by hand over backend: 1 means that the backend costs nothing. Ranges
are quartiles.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from compare_models import config_of

import gptj
from gptj.bench.table import table
from gptj.system.processor import cores, name

PROMPT, NEW = 32, 32
TITLES = ("engine", "backend, ms/token", "by hand, ms/token", "ratio", "same tokens")


def openvino_by_hand(folder):
    """Return a function from prompt to greedy tokens, with OpenVINO alone."""
    import openvino as ov

    path = folder / "openvino_model.xml"
    model = ov.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(prompt):
        request, ids, past = model.create_infer_request(), list(prompt), 0
        for _ in range(NEW):
            positions = [[*range(past, len(ids))]]
            inputs = [[ids[past:]], [[1] * len(ids)], positions, np.zeros(1, np.int32)]
            past, logits = len(ids), request.infer(inputs)[0]
            ids.append(int(logits[0, -1].argmax()))
        return ids[len(prompt) :]

    return run


def ctranslate2_by_hand(folder):
    """Return a function from prompt to greedy tokens, with CTranslate2 alone."""
    import json

    import ctranslate2

    words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    model = ctranslate2.Generator(str(folder), compute_type="float32", intra_threads=cores())

    def run(prompt):
        (result,) = model.generate_batch(
            [[words[token] for token in prompt]],
            max_length=NEW,
            min_length=NEW,
            include_prompt_in_result=False,
        )
        return result.sequences_ids[0]

    return run


BY_HAND = {"openvino": openvino_by_hand, "ctranslate2": ctranslate2_by_hand}


def measure(engine, source, folder, repeat):
    """Return the row of an engine."""
    gptj.export(source, folder, to=engine)
    model, by_hand = gptj.load(source, backend=engine), BY_HAND[engine](folder)
    draw = np.random.Generator(np.random.PCG64(3))
    prompt = draw.integers(0, model.config.vocab_size, PROMPT)
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    sides = {
        "backend": lambda: model.generate(prompt[None], **options)[0, PROMPT:].tolist(),
        "by hand": lambda: by_hand(prompt.tolist()),
    }
    tokens = {side: run() for side, run in sides.items()}  # and warm up
    seconds = {side: [] for side in sides}
    for turn in range(repeat):
        for side in [*sides][:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            sides[side]()
            seconds[side].append((time.perf_counter() - start) / NEW * 1e3)
    ratio = np.median(seconds["by hand"]) / np.median(seconds["backend"])
    same = tokens["backend"] == tokens["by hand"]
    shown = [described(seconds[side]) for side in sides]
    return [engine, *shown, f"{ratio:.3f}", "yes" if same else "no"]


def described(values):
    """Return the median of some numbers, and their quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "mid"
        gptj.init(config_of("mid"), source)
        rows = [measure(engine, source, Path(place) / engine, options.repeat) for engine in BY_HAND]
    lines = __doc__.split("\n\n")
    text = (
        f"# {lines[0].rstrip('.')}\n\n`{lines[1].strip()}`, with Python "
        f"{platform.python_version()} on {cores()} cores of {name()}.\n\n{lines[2].strip()}\n\n"
        f"{table(TITLES, rows)}\n"
    )
    print(text)
    if options.report:
        options.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
