"""The two functions most users need: load a model, load a tokenizer."""

from pathlib import Path
from typing import Any

from gptj.backends import get_backend
from gptj.pretrained import load_model
from gptj.tokenizer import GPTJTokenizer


def load(
    name: str | Path = "demo",
    *,
    backend: str | None = None,
    head: str = "causal_lm",
    dtype: Any = "auto",
    device: Any = None,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Load a GPT-J in the framework of your choice.

    Args:
        name: ``"demo"`` (a small trained model inside the package), ``"6B"``, a folder, a file, or
            a hub id with or without ``@revision``.
        backend: ``"torch"``, ``"tf"`` or ``"flax"``, an alias (``"pytorch"``, ``"keras"``,
            ``"jax"``), or the name of one that is plugged in; the first that is installed if None.
        head: ``"base"``, ``"causal_lm"``, ``"sequence_classification"`` or
            ``"question_answering"``, as far as the backend has it.
        dtype: of parameters and computation; ``"auto"`` takes the configuration's, else the file's.
        device: the framework's own name of a device.
        revision: branch, tag or commit on the hub.
        options: fields of the configuration, what `gptj.pretrained.load_model` takes, and what the
            backend takes, such as ``attn_implementation``.

    Returns:
        The model: `GPTJForCausalLM`, `TFGPTJForCausalLM` and so on.

    Raises:
        BackendUnavailable: if the framework is not installed, naming the extra that installs it.
        ArgumentError, UnsupportedFeature, CheckpointError: saying what was wrong and what to do.
    """
    return load_model(
        get_backend(backend),
        head,
        name,
        dtype=dtype,
        device=device,
        revision=revision,
        **options,
    )


def load_tokenizer(name: str | Path = "demo", **options: Any) -> GPTJTokenizer:
    """Load the tokenizer of a model: a folder's own, else GPT-J's.

    Args:
        name: as in `load`.
        options: as in ``GPTJTokenizer.from_pretrained``.
    """
    return GPTJTokenizer.from_pretrained(name, **options)
