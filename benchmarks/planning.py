"""How close `gptj plan` comes to the memory that is really used.

    python benchmarks/planning.py --report benchmarks/planning.md

Each row is a separate process: a model of random weights generates eight tokens, or takes two
steps of Adam, in one framework on the CPU. Measured is anonymous memory at its peak, above what the
process had after importing the framework; where PyTorch maps its weights from the file, these are
added, since they have to be somewhere.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = ("torch", "tf", "flax")
CASES = (
    # train, n_embd, n_layer, vocab_size, batch, length
    (False, 512, 8, 8192, 1, 64),
    (False, 512, 8, 8192, 8, 1024),
    (False, 1024, 12, 50400, 2, 512),
    (True, 512, 8, 8192, 4, 256),
    (True, 512, 8, 8192, 4, 512),
    (True, 512, 8, 32768, 4, 256),
    (True, 1024, 12, 50400, 2, 512),
)


def generate(model, ids):
    model.generate(ids, max_new_tokens=8)


def train_torch(model, ids):
    import torch

    model.train()
    optimizer, batch = torch.optim.AdamW(model.parameters()), torch.tensor(ids)
    for _ in range(2):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_tf(model, ids):
    import keras

    model.compile(optimizer=keras.optimizers.AdamW())
    batch = ids.astype("int32")
    for _ in range(2):
        model.train_on_batch({"input_ids": batch, "labels": batch})


def train_flax(model, ids):
    import jax
    import optax

    optimizer, params = optax.adamw(1e-3), model.params
    model = model.bind(None)
    state = optimizer.init(params)

    def step(params, state):
        gradients = jax.grad(lambda p: model(ids, params=p, labels=ids).loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        params, state = step(params, state)
    jax.block_until_ready(params)


def measure(backend: str, folder: str, train: bool, batch: int, length: int) -> int:
    import numpy as np
    from peak import Peak

    import gptj
    from gptj.backends import get_backend

    get_backend(backend)
    work = {"torch": train_torch, "tf": train_tf, "flax": train_flax}[backend]
    ids = np.random.default_rng(0).integers(0, 8192, (batch, length))
    with Peak() as peak:
        model = gptj.load(folder, backend=backend)
        (work if train else generate)(model, ids)
    is_mapped = backend == "torch" and not train
    return peak.bytes + is_mapped * gptj.plan(folder, backend=backend, length=length).weights


def row(backend: str, case: tuple) -> str:
    import gptj

    train, width, layers, vocab, batch, length = case
    config = gptj.GPTJConfig(
        n_embd=width, n_layer=layers, vocab_size=vocab, n_head=width // 64, rotary_dim=32,
        eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        gptj.init(config, folder)
        arguments = map(str, (backend, folder, int(train), batch, length))
        command = [sys.executable, __file__, "--worker", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(result.stderr)
        measured = json.loads(result.stdout.splitlines()[-1])
        total = length if train else length + 8
        found = gptj.plan(folder, backend=backend, batch=batch, length=total, train=train)
    model = f"{width} x {layers}, {vocab} words"
    what = "Adam" if train else "generate"
    numbers = f"{found.total / 1e6:.0f} | {measured / 1e6:.0f} | {found.total / measured:.2f}"
    return f"| {backend} | {what} | {model} | {batch} x {length} | {numbers} |"


HEADER = """\
| backend | what | model | tokens | predicted, MB | measured, MB | ratio |
|---|---|---|---|---|---|---|"""


def main() -> None:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--report", type=Path, help="write the table there")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        backend, folder, train, batch, length = options.worker
        print(measure(backend, folder, train == "1", int(batch), int(length)))
        return
    lines = [HEADER]
    print(HEADER)
    for backend in options.backends.split(","):
        for case in CASES:
            lines.append(row(backend, case))
            print(lines[-1], flush=True)
    if options.report:
        options.report.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
