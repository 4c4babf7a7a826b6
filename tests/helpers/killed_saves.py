"""Saves that are killed or interrupted before any call that changes files, race, or are read.

Run as a program, so that the processes that it forks have no threads and no framework. It prints a
JSON object of what was found:

    python killed_saves.py kills FOLDER CASE FIRST STEP    before every STEP-th call from FIRST on
    python killed_saves.py interrupts FOLDER CASE FIRST STEP    by Ctrl-C
    python killed_saves.py races FOLDER CASE TRIALS
    python killed_saves.py reads FOLDER CASE TRIALS
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.errors import CheckpointError
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig, new_adapter
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor
from gptj.system.atomic import write_text
from gptj.tokenizer import GPTJTokenizer
from gptj.training import checkpoints

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
KILLED = 9
INTERRUPTED = 130


def small(value, **changes):
    """Return a configuration and its tensors, all of one value that tells the model."""
    sizes = {"vocab_size": 16, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 8}
    config = GPTJConfig(**{**sizes, "rotary_dim": 2, "extra": {"mark": value}, **changes})
    tensors = {
        name: LazyTensor.of(np.full(parameter.shape, value, np.float32))
        for name, parameter in parameter_table(config).items()
    }
    return config, tensors


def save_model(folder, value, form="safetensors", size="2KB", n_layer=1):
    """Save a model whose every number, and a key of whose configuration, is `value`."""
    config, tensors = small(value, n_layer=n_layer)
    options = GenerationConfig(max_new_tokens=int(value))
    save_checkpoint(folder, config, options, tensors, format=form, max_shard_size=size)


def value_of(folder):
    """Return the value of the model in a folder; an AssertionError says that there are two."""
    opened = open_checkpoint(folder)
    with opened.kept():
        config = opened.config()
        values = {config["mark"]}
        for tensor in opened.tensors.values():
            values |= {float(number) for number in np.unique(tensor.read())}
        options = GenerationConfig.from_folder(folder, GPTJConfig.from_dict(config))
    values.add(float(options.max_new_tokens))
    assert len(values) == 1, f"a mixture of {values}"
    assert set(opened.tensors) == set(parameter_table(GPTJConfig.from_dict(config)))
    return values.pop()


def save_lora(folder, value, base="demo"):
    config, _ = small(1.0)
    lora = LoraConfig(rank=2, alpha=value)
    shapes = new_adapter(lora, config, "causal_lm", 0)
    tensors = {n: LazyTensor.of(np.full(t.shape, value, np.float32)) for n, t in shapes.items()}
    write_adapter(folder, lora, "causal_lm", tensors, base)


def lora_value(folder):
    lora, tensors, _ = read_adapter(folder, small(1.0)[0], "causal_lm")
    values = {float(lora.alpha)} | {float(n) for t in tensors.values() for n in np.unique(t.read())}
    assert len(values) == 1, f"a mixture of {values}"
    return values.pop()


def save_tokenizer(folder, value):
    tokenizer = TOKENIZERS[value]
    tokenizer.save_pretrained(folder)


def tokenizer_value(folder):
    found = GPTJTokenizer.from_pretrained(folder)
    length = {len(tokenizer): value for value, tokenizer in TOKENIZERS.items()}[len(found)]
    added = json.loads((folder / "added_tokens.json").read_text())
    assert len(found) == max(added.values()) + 1
    assert found.model_max_length == int(length)
    return length


def save_training(folder, value, step=None):
    """Save a checkpoint of a training, of whose model there is only a number."""

    def write(new):
        write_text(new / "model.safetensors", str(value))

    model = SimpleNamespace(
        lora=None,
        save_pretrained=write,
        save_optimizer=lambda new, _: write_text(new / "optimizer.safetensors", str(value)),
    )
    progress = checkpoints.TrainingProgress(step or int(value), "demo", str(value), {}, "torch")
    checkpoints.save(folder, model, None, progress, keep=1)


def training_value(folder):
    newest = checkpoints.newest(folder)
    if newest is None:
        return None
    values = {float((newest / f"{n}.safetensors").read_text()) for n in ("model", "optimizer")}
    values.add(float(checkpoints.read_progress(newest).data))
    assert len(values) == 1, f"a mixture of {values}"
    return values.pop()


def stranger(folder):
    """Put a file of somebody else into a folder, so that it cannot be exchanged as a whole."""
    (folder / "notes.md").write_text("mine")


TOKENIZERS = {}
CASES = {
    "shards": (save_model, value_of, None),
    "whole": (lambda f, v: save_model(f, v, size="1GB"), value_of, None),
    "another size": (lambda f, v: save_model(f, v, n_layer=int(v)), value_of, None),
    "bin": (lambda f, v: save_model(f, v, "bin"), value_of, None),
    "msgpack": (lambda f, v: save_model(f, v, "msgpack"), value_of, None),
    "h5": (lambda f, v: save_model(f, v, "h5"), value_of, None),
    "mesh": (lambda f, v: save_model(f, v, "mesh"), value_of, None),
    "ggml": (lambda f, v: save_model(f, v, "ggml"), value_of, None),
    "shards beside a stranger's file": (save_model, value_of, stranger),
    "mesh beside a stranger's file": (lambda f, v: save_model(f, v, "mesh"), value_of, stranger),
    "another size beside a stranger's file": (
        lambda f, v: save_model(f, v, n_layer=int(v)),
        value_of,
        stranger,
    ),
    "fewer shards beside a stranger's file": (
        lambda f, v: save_model(f, v, size="2KB" if v == 1 else "1GB", n_layer=int(v)),
        value_of,
        stranger,
    ),
    "safetensors and bin": (
        lambda f, v: save_model(f, v, "safetensors" if v == 1 else "bin"),
        value_of,
        None,
    ),
    "adapter": (save_lora, lora_value, None),
    "adapter beside a stranger's file": (save_lora, lora_value, stranger),
    "training": (save_training, training_value, None),
    "the same step of a training": (lambda f, v: save_training(f, v, 7), training_value, None),
    "tokenizer": (save_tokenizer, tokenizer_value, stranger),
}
"""Name -> how to save a value, how to read it, and what else is in the folder."""


def before_call(number, strike):
    """Have `strike` called before call `number` that changes the file system."""
    seen = 0

    def count(event, arguments):
        nonlocal seen
        if event in EVENTS or (event == "open" and (arguments[2] or 0) & WRITING):
            seen += 1
            if seen == number + 1:
                strike()

    sys.addaudithook(count)


def die():
    """End this process as a kill does."""
    os._exit(KILLED)


def press_ctrl_c():
    """Interrupt this process as its user does."""
    signal.raise_signal(signal.SIGINT)


def start(action):
    """Begin an action in a separate process; return its number."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def wait(child):
    """Return the exit status of a process."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leftovers(root):
    return [path.name for path in root.rglob(".*") if path.name.startswith((".saving", ".saved"))]


def trial(root, case, number, has_old, strike):
    """End one save, read, save again; return what was read and whether the save was ended."""
    save, read, add = CASES[case]
    folder = root / "model"
    if has_old:
        save(folder, 1.0)
        if add:
            add(folder)

    def ended():
        before_call(number, strike)
        save(folder, 2.0)

    status = wait(start(ended))
    assert status in (0, KILLED if strike is die else INTERRUPTED), f"the save ended with {status}"
    # in a folder of our own, old and new are the same for programs that know nothing of journals
    assert add or not list(folder.glob(".*"))
    found = read(folder) if any(folder.glob("[!.]*")) else None
    assert found in ((1.0, 2.0) if has_old else (None, 2.0)), f"found {found}"
    assert status or found == 2.0
    check_remains(root, folder, case, strike, found)
    if add and has_old:
        assert (folder / "notes.md").read_text() == "mine"
    save(folder, 2.0)
    assert read(folder) == 2.0
    assert not leftovers(root), f"left: {leftovers(root)}"
    shutil.rmtree(root)
    root.mkdir()
    return bool(status), found


def check_remains(root, folder, case, strike, found):
    """Nothing is left of a save that an interrupt undid, and no empty folder of a killed one."""
    if strike is press_ctrl_c and found != 2.0:
        assert not leftovers(root), f"left: {leftovers(root)}"
        assert found or not folder.exists(), "left: the folder"
    if found is None and "training" not in case:  # which saves into a folder of that folder
        assert not folder.exists(), "left: the folder"


def kills(root, case, first, step, strike=die):
    """End a save of every case before one call after the other."""
    counts = {"ends": 0, "old": 0, "new": 0, "nothing": 0, "wrong": []}
    for has_old in (True, False):
        number, is_ended = int(first), True
        while is_ended:
            try:
                is_ended, found = trial(root, case, number, has_old, strike)
                counts[{1.0: "old", 2.0: "new", None: "nothing"}[found]] += 1
            except Exception as error:
                counts["wrong"].append(f"{case}, call {number}, old: {has_old}: {error!r}")
                shutil.rmtree(root)
                root.mkdir()
            counts["ends"] += is_ended
            number += int(step)
            is_ended &= number < 2000
    return counts


def interrupts(root, case, first, step):
    """Press Ctrl-C before one call after the other."""
    return kills(root, case, first, step, press_ctrl_c)


def quietly(save, folder, value):
    """Save, unless the package refuses it, with status 3."""
    try:
        save(folder, value)
    except CheckpointError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(3)


def races(root, case, trials):
    """Let two processes save at once: one of them wins, and the other one may be refused."""
    save, read, add = CASES[case]
    folder = root / "model"
    counts = {"trials": 0, "refused": 0, "first": 0, "second": 0, "wrong": []}
    for number in range(int(trials)):
        if number % 3:  # else there is nothing yet
            save(folder, float(1 + number % 2))
            if add:
                add(folder)
        started = [start(lambda value=value: quietly(save, folder, value)) for value in (1.0, 2.0)]
        ended = [wait(child) for child in started]
        try:
            assert set(ended) <= {0, 3}, f"the writers ended with {ended}"
            assert 0 in ended, "nobody could save"
            found = read(folder)
            assert ended[int(found) - 1] == 0, f"found {found} of a writer that was refused"
            assert not leftovers(root), f"left: {leftovers(root)}"
            counts["first" if found == 1.0 else "second"] += 1
        except Exception as error:
            counts["wrong"].append(f"{case}, trial {number}: {error!r}")
        counts["trials"] += 1
        counts["refused"] += ended.count(3)
        shutil.rmtree(root)
        root.mkdir()
    return counts


def reads(root, case, trials):
    """Read again and again what another process saves again and again."""
    save, read, add = CASES[case]
    folder = root / "model"
    save(folder, 1.0)
    if add:
        add(folder)

    def write():
        for number in range(10**6):
            save(folder, float(1 + number % 2))

    counts = {"trials": 0, "1": 0, "2": 0, "refused": 0, "wrong": []}
    writer = start(write)
    for number in range(int(trials)):
        counts["trials"] += 1
        try:
            counts[f"{read(folder):.0f}"] += 1
        except CheckpointError as error:
            counts["refused"] += 1
            if "was replaced while it was read" not in str(error):
                counts["wrong"].append(f"{case}, trial {number}: {error!r}")
        except Exception as error:
            counts["wrong"].append(f"{case}, trial {number}: {error!r}")
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    return counts


def main(what, folder, case, *numbers):
    root = Path(folder) / "trial"
    root.mkdir()
    if case.startswith("tokenizer"):
        for value in (1.0, 2.0):
            TOKENIZERS[value] = GPTJTokenizer(model_max_length=int(value))
            TOKENIZERS[value].add_tokens([f"<{number}>" for number in range(int(value))])
    ways = {"kills": kills, "interrupts": interrupts, "races": races, "reads": reads}
    print(json.dumps(ways[what](root, case, *numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
