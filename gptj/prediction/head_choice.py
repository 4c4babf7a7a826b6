"""Which head the files of a name have, of which a prediction is asked."""

from os.path import lexists
from pathlib import Path
from typing import Final, Unpack

from gptj import hub
from gptj.checkpoint.adapter_folder import open_adapter
from gptj.checkpoint.folder import open_quietly
from gptj.errors import ArgumentError, UnsupportedFeature, brief, choices
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS, head_of

PREDICTING: Final = ("sequence_classification", "question_answering")
"""The heads that predict."""

BY_CLASS: Final = {
    f"{prefix}{head.class_name}": head.name
    for head in HEADS.values()
    for prefix in ("", "TF", "Flax")
}
"""Name of a class, as `architectures` of a configuration has it -> its head."""


def served_head(name: str | Path, **where: Unpack[HubOptions]) -> str:
    """Return the head that a model's ``config.json``, or an adapter's task, says that it has.

    Where the configuration does not say, the head is that of the tensors.

    Args:
        name: as in `gptj.load`.
        where: as in ``gptj.hub.locate``.

    Raises:
        ArgumentError: if they do not say.
        CheckpointError: if there are no such files.
    """
    if open_adapter(hub.locate(name, weights=False, **where)) is not None:
        adapter = open_adapter(hub.locate(name, **where))  # its weights may say it, and are small
        if adapter is not None:  # a model may have an adapter's configuration beside its own
            return adapter.head()
    path = hub.locate_config(name, **where)
    written = GPTJConfig.from_json_file(path).architectures if lexists(path) else None
    heads = {BY_CLASS.get(architecture) for architecture in written or ()}
    (head,) = heads if len(heads) == 1 else (None,)
    return head or _head_of_tensors(name, path, written, **where)


def _head_of_tensors(
    name: str | Path, path: Path, written: object, **where: Unpack[HubOptions]
) -> str:
    """Return the head whose tensors the files have, for a configuration that does not say it."""
    head = head_of(open_quietly(hub.locate(name, **where)).tensors)
    if head == "base":
        raise ArgumentError(
            f"{path} does not say which head the model has: its architectures are {brief(written)},"
            f" accepted is one of {choices(BY_CLASS)}, and the tensors are of none. Name the head: "
            "head=..., or --head."
        )
    return head


def check_head(head: str) -> None:
    """Refuse a head that does not predict.

    Raises:
        UnsupportedFeature: saying what it does instead.
    """
    if head == "causal_lm":
        raise UnsupportedFeature(
            "The model's head is 'causal_lm', which continues texts: use gptj generate, or "
            f"generate_text() in Python. Predictions need one of {choices(PREDICTING)}."
        )
    if head not in PREDICTING:
        raise UnsupportedFeature(
            f"The model's head is {head!r}. Predictions need one of {choices(PREDICTING)}."
        )
