"""Measure a trained model: ``python weights/demo/evaluate.py runs/demo``.

Reads the folder that train.py wrote, and writes its metrics.json. All measurements use the model as
it ships: float16 on disk, float32 in memory, the whole vocabulary.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

import gptj
from continuations import choose_prompts, write_on
from data import read_library, read_manifest, shared_lines, token_stream
from gptj import GPTJForCausalLM, GPTJTokenizer
from saved import CONFIG
from scoring import bits_per_byte, gzip_bits_per_byte, nats_per_token, score


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True, help="Cores to use.")
def main(run: Path, threads: int) -> None:
    """Measure the model in the folder RUN."""
    torch.set_num_threads(threads)
    tokenizer, model = GPTJTokenizer(), gptj.load(run / "model", backend="torch").eval()
    training, files = read_sides(run / "manifest.json")
    metrics = {
        "train_tokens": len(token_stream(training.values(), tokenizer)),
        "shared_lines": shared_lines(files.values(), training.values()),
        "size_bytes": sum(path.stat().st_size for path in (run / "model").iterdir()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gzip_bits_per_byte": gzip_bits_per_byte(files.values()),
        "before": held_out_loss(GPTJForCausalLM(CONFIG).eval(), tokenizer, files),
        "after": held_out_loss(model, tokenizer, files),
        "continuations": [
            asdict(write_on(model, tokenizer, *prompt))
            for prompt in choose_prompts(files, tokenizer)
        ],
    }
    text = json.dumps(metrics, indent=1) + "\n"
    (run / "metrics.json").write_text(text, encoding="utf-8")
    click.echo(f"{metrics['after']['bits_per_byte']:.3f} bits per byte")


def read_sides(manifest: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the training files and the held-out files, checked against the manifest."""
    version, sources = read_manifest(manifest)
    library = read_library()
    found = {path: hashlib.sha256(text).hexdigest() for path, text in library.items()}
    if found != {source.path: source.sha256 for source in sources}:
        raise click.ClickException(f"The model was trained on the library of Python {version}.")
    training, held_out = (
        {source.path: library[source.path] for source in sources if source.held_out == side}
        for side in (False, True)
    )
    return training, held_out


def held_out_loss(
    model: GPTJForCausalLM, tokenizer: GPTJTokenizer, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """Return a model's loss on the held-out files, in total and for each file."""
    scores = [
        score(model, tokenizer, path, text)
        for path, text in tqdm(files.items(), disable=None, unit="file")
    ]
    return {
        "bits_per_byte": bits_per_byte(scores),
        "nats_per_token": nats_per_token(scores),
        "files": [asdict(s) for s in scores],
    }


if __name__ == "__main__":
    main()
