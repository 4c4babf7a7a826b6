"""Measure a trained model: ``python weights/demo/evaluate.py runs/demo``.

Reads the folder that train.py wrote, and writes its metrics.json. Everything is measured with the
model as it ships: float16 on disk, float32 in use, the whole vocabulary.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from continuations import choose_prompts, write_on
from data import read_library, read_manifest
from saved import CONFIG
from scoring import bits_per_byte, gzip_bits_per_byte, nats_per_token, score
from tqdm import tqdm

import gptj
from gptj import GPTJForCausalLM, GPTJTokenizer


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True, help="Cores to use.")
def main(run: Path, threads: int) -> None:
    """Measure the model in the folder RUN."""
    torch.set_num_threads(threads)
    tokenizer, model = GPTJTokenizer(), gptj.load(run / "model", backend="torch").eval()
    files = held_out_files(run / "manifest.json")
    metrics = {
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


def held_out_files(manifest: Path) -> dict[str, bytes]:
    """Return the held-out files, which must be those of the manifest."""
    version, sources = read_manifest(manifest)
    library = read_library()
    expected = {s.path: s.sha256 for s in sources if s.held_out}
    found = {path: library[path] for path in expected if path in library}
    if {path: hashlib.sha256(text).hexdigest() for path, text in found.items()} != expected:
        raise click.ClickException(f"The model was trained on the library of Python {version}.")
    return found


def held_out_loss(
    model: GPTJForCausalLM, tokenizer: GPTJTokenizer, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """Return what a model needs for the held-out files, in all and one by one."""
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
