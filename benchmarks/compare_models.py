"""The models that are compared, and their files in every form that a system reads."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import gptj

SHAPES = {
    # gptj's own names of what a configuration says
    "small": {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 16, "n_positions": 512},
    "mid": {"n_embd": 1024, "n_layer": 12, "n_head": 16, "rotary_dim": 32},
    "6B": {},
}
"""Name -> what differs from the published model; "small" tries everything out in minutes."""


@dataclass(frozen=True)
class Sizes:
    """How much of a model is measured.

    Attributes:
        first: tokens before a first token.
        prompt, new: tokens before a text, and behind its first one.
        prefill: tokens whose logits are computed.
        train: rows and tokens of a training step, or None where it does not fit into memory.
        contexts, batches: points of the two curves, besides `prompt`, and 1 and 8 rows.
    """

    first: int
    prompt: int
    new: int
    prefill: int
    train: tuple[int, int] | None = None
    contexts: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()


SIZES = {
    "small": Sizes(16, 16, 8, 32, (2, 32), (32, 64), (2,)),
    "mid": Sizes(128, 32, 32, 512, (2, 256), (512, 1024, 1984), (2, 4, 16)),
    "6B": Sizes(32, 16, 8, 128),
}

FORMS = {"safetensors": "safetensors", "flax": "msgpack", "tf": "h5"}
"""A form that a system reads -> how gptj calls it; CTranslate2's own is "ct2"."""


def config_of(name):
    """Return the configuration of a model that is compared."""
    return gptj.GPTJConfig(**SHAPES[name])


def widest(name):
    """Return the dtype of a model's files that others are made of: float32, if there is room."""
    return "bfloat16" if name == "6B" else "float32"


def prepare(folder, name, form, dtype, peers):
    """Return the folder of a model in some form, which is written if it is not there.

    Args:
        folder: where all models are.
        form: a key of `FORMS`, or "ct2".
        peers: the Python that has CTranslate2.
    """
    place = Path(folder) / f"{name}-{form}-{dtype}"
    if place.exists():
        return place
    unfinished = place.with_name(place.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    if form == "safetensors":
        gptj.init(config_of(name), unfinished, dtype=dtype)
    else:
        source_dtype = widest(name) if dtype == "int8" else dtype
        source = prepare(folder, name, "safetensors", source_dtype, peers)
        _convert(source, unfinished, form, dtype, peers)
    unfinished.rename(place)
    return place


def _convert(source, destination, form, dtype, peers):
    if form != "ct2":
        gptj.convert(source, destination, to=FORMS[form])
        return
    command = [peers, "-m", "ctranslate2.converters.transformers", "--model", source]
    command += ["--output_dir", destination, "--quantization", dtype, "--low_cpu_mem_usage"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"CTranslate2 cannot convert {source}: {result.stderr[-300:]}")
