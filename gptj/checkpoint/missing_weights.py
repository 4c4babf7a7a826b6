"""What to say of a folder or a file that holds no weights: what it holds instead."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gptj.checkpoint.formats import FORMATS, FORMS
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES
from gptj.errors import CheckpointError, choices
from gptj.system.file_kinds import NOT_ENDED, foreign_kind, how_to_fetch, is_unfinished

SHOWN: Final = 12
"""Files of a folder that a message lists."""

ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".gz", ".7z", ".rar", ".xz")

OTHER_WEIGHTS: Final[Mapping[str, str]] = {
    ".gguf": "GGUF is llama.cpp's form, which gptj does not read",
    ".onnx": "ONNX holds a graph and not a GPT-J's weights by name, so gptj does not read it",
    ".keras": "a .keras file is read by keras.models.load_model, with gptj imported",
    ".ckpt": "name a file of PyTorch pytorch_model.bin, or give the file itself as *.bin",
    ".pt": "name a file of PyTorch pytorch_model.bin, or give the file itself as *.bin",
    ".pth": "name a file of PyTorch pytorch_model.bin, or give the file itself as *.bin",
}


def no_weights(path: Path) -> CheckpointError:
    """Return the error that says what a folder has instead of weights, and what to do."""
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    names = choices(name for form in FORMS for name in (form.whole, form.index))
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    hint = _hint(path, found)
    return CheckpointError(
        f"{path} holds no weights that gptj reads: none of {names}, no ggml-model*.bin, "
        f"and no mesh-transformer-jax step_N/shard_0. Found "
        f"{choices(found[:SHOWN]) or 'nothing'}{more}.{hint}"
    )


def not_weights(path: Path) -> CheckpointError:
    """Return the error for a file whose name is not that of weights."""
    accepted = choices(Path(form.whole).suffix for form in FORMATS.values())
    about = foreign_kind(path)
    hint = f" In fact {about}" if about else ""
    return CheckpointError(
        f"{path} is not a weight file that gptj reads; those end with {accepted}, or are an index "
        f"of such files.{hint}"
    )


def _hint(path: Path, found: list[str]) -> str:
    """Return a sentence on the first thing in a folder that explains it."""
    own = tuple(Path(form.whole).suffix for form in FORMATS.values())
    tests: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
        (is_unfinished, lambda name: _unfinished(path / name)),
        (lambda name: name.endswith(ARCHIVES), lambda name: f"Unpack {name!r} first."),
        (
            lambda name: name.endswith(own) and "-of-" in name,
            lambda name: (
                f"{name!r} is one of several weight files, whose index is missing. "
                + how_to_fetch(path / FORMATS["safetensors"].index)
            ),
        ),
        (
            lambda name: name.endswith(own) and not name.startswith("adapter_"),
            lambda name: f"If {name!r} holds the weights, give that file instead of the folder.",
        ),
        (
            lambda name: name.endswith(tuple(OTHER_WEIGHTS)),
            lambda name: f"{name!r}: {OTHER_WEIGHTS[Path(name).suffix]}.",
        ),
        (
            lambda name: name in TOKENIZER_FILES,
            lambda _: f"It holds a tokenizer: gptj.load_tokenizer({str(path)!r}) reads it.",
        ),
    )
    hints = (say(name) for test, say in tests for name in found if test(name))
    hint = next(hints, None)
    return f" {hint}" if hint else ""


def _unfinished(path: Path) -> str:
    size = path.stat().st_size
    return f"{path.name!r} is {NOT_ENDED}, of {size} bytes. {how_to_fetch(path)}"
