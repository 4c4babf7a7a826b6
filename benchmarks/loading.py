"""Peak memory of loading a checkpoint, and of generating from it, per backend and form.

    python benchmarks/loading.py FOLDER... --report benchmarks/loading.md
    python benchmarks/loading.py FOLDER... --peer path/to/python   # which has transformers 4.56.2

Each measurement is a separate process. What counts is anonymous memory above what the process
had after importing its framework: memory that no file backs, and that cannot be taken away. The
yardstick is the checkpoint's own size.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

BACKENDS = ("torch", "tf", "flax")
PEERS = {
    "torch": "GPTJForCausalLM",
    "tf": "TFGPTJForCausalLM",
    "flax": "FlaxGPTJForCausalLM",
}
PROMPT = [[464, 3290, 318, 257]]


def measure(system: str, backend: str, folder: str, tokens: int) -> dict[str, float]:
    """Load, and generate, in this process; return peaks in bytes and seconds."""
    load, generate = {"gptj": _ours, "transformers": _peer}[system](backend, folder)
    from peak import Peak

    start = perf_counter()
    with Peak() as loading:
        model = load()
    loaded = perf_counter()
    result = {"load": loading.bytes, "load_seconds": loaded - start}
    if tokens:
        with Peak() as running:
            generate(model, tokens)
        peak = running.highest - loading.start
        result |= {"generate": peak, "generate_seconds": perf_counter() - loaded}
    return result


def _ours(backend: str, folder: str):
    """Return what loads and what generates, after importing the framework."""
    import numpy as np

    import gptj
    from gptj.backends import get_backend

    get_backend(backend)
    return (
        lambda: gptj.load(folder, backend=backend),
        lambda model, count: model.generate(np.array(PROMPT), max_new_tokens=count),
    )


def _peer(backend: str, folder: str):
    import os

    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import transformers

    model_class = getattr(transformers, PEERS[backend])
    import numpy as np

    ids = np.array(PROMPT)
    if backend == "torch":
        import torch

        options = {"dtype": "auto", "low_cpu_mem_usage": True}
        ids = torch.tensor(ids)
    else:
        options = {}
    return (
        lambda: model_class.from_pretrained(folder, **options),
        lambda model, count: model.generate(ids, max_new_tokens=count, do_sample=False),
    )


def run(python: str, system: str, backend: str, folder: Path, tokens: int) -> dict:
    """Measure in a fresh process; say what it died of if it did."""
    worker = [python, __file__, "--worker", system, backend, str(folder), str(tokens)]
    result = subprocess.run(worker, capture_output=True, text=True, check=False)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode == 0 and lines:
        return json.loads(lines[-1])
    last = (result.stderr.strip().splitlines() or ["killed"])[-1]
    return {"failed": f"failed: {last[:100]}" if result.returncode > 0 else "killed: no memory"}


def weight_bytes(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return sum(path.stat().st_size for path in files)


SUFFIXES = (".safetensors", ".bin", ".msgpack", ".h5", ".npz")


def row(system: str, backend: str, folder: Path, found: dict) -> str:
    size = weight_bytes(folder)
    cells = [folder.name, f"{size / 1e9:.2f}", f"{system} {backend}"]
    if "failed" in found:
        return "| " + " | ".join([*cells, found["failed"], "", ""]) + " |"
    cells.append(f"{found['load'] / 1e9:.2f} ({found['load'] / size:.3f})")
    cells.append(f"{found['load_seconds']:.0f}")
    if "generate" in found:
        cells.append(f"{found['generate'] / 1e9:.2f} in {found['generate_seconds']:.0f} s")
    return "| " + " | ".join(cells) + " |"


HEADER = """\
| checkpoint | GB | system | loading, GB (times the checkpoint) | s | and generating, GB |
|---|---|---|---|---|---|"""


def main() -> None:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--tokens", type=int, default=0, help="generate so many, too")
    parser.add_argument("--peer", help="a Python that has transformers")
    parser.add_argument("--report", type=Path, help="write the table there")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        system, backend, folder, tokens = options.worker
        print(json.dumps(measure(system, backend, folder, int(tokens))))
        return
    lines = [HEADER]
    print(HEADER)
    systems = {"gptj": sys.executable} | ({"transformers": options.peer} if options.peer else {})
    for folder in options.folders:
        for backend in options.backends.split(","):
            for system, python in systems.items():
                found = run(python, system, backend, folder, options.tokens)
                lines.append(row(system, backend, folder, found))
                print(lines[-1], flush=True)
    if options.report:
        options.report.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
