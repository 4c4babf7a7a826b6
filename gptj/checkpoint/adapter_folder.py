"""What an adapter's folder says about its base model: name, head and labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.adapter_fields import PREFIX, TASKS
from gptj.checkpoint.adapter_files import CONFIG_NAME as ADAPTER_CONFIG
from gptj.checkpoint.adapter_files import read_config, read_weights
from gptj.checkpoint.folder import CONFIG_NAME, is_adapter
from gptj.errors import CheckpointError, brief, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import head_of
from gptj.system.json_files import read_json

HEADS_BY_TASK: Final = {task: head for head, task in TASKS.items()}

LABEL_FIELDS: Final = ("id2label", "label2id", "num_labels")
"""Fields of a configuration that name or count labels."""


@dataclass(frozen=True)
class AdapterFolder:
    """A folder that holds an adapter and no model.

    Attributes:
        folder: where the files are.
        content: the content of ``adapter_config.json``.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The name of the base model, as the file has it.

        Raises:
            CheckpointError: if the file has none.
        """
        name = self.content.get("base_model_name_or_path")
        if not isinstance(name, str) or not name:
            raise self.without_base(
                f"{ADAPTER_CONFIG} has base_model_name_or_path = {brief(name)}."
            )
        return name

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit of the base model on the hub."""
        revision = self.content.get("revision")
        return revision if isinstance(revision, str) and revision else None

    def head(self) -> str:
        """Return the head that the adapter was trained with, from its task or its tensors.

        Raises:
            CheckpointError: for a task that no head of GPT-J serves.
        """
        task = self.content.get("task_type")
        if task is None:
            found = head_of(name.removeprefix(PREFIX) for name in read_weights(self.folder))
            return "causal_lm" if found == "base" else found
        if not isinstance(task, str) or task not in HEADS_BY_TASK:
            raise CheckpointError(
                f"{self.folder / ADAPTER_CONFIG} has task_type = {brief(task)}; accepted are "
                f"{choices(HEADS_BY_TASK)}. If the adapter fits one of GPT-J's heads, name it by "
                "head=..."
            )
        return HEADS_BY_TASK[task]

    def with_labels(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of the base model's configuration with the adapter's labels.

        The adapter's classification head, if any, gives their number; a ``config.json`` beside the
        adapter gives their names and the problem type.

        Raises:
            CheckpointError: if the head and ``config.json`` have different numbers of labels.
        """
        path = self.folder / CONFIG_NAME
        beside = read_json(path) if lexists(path) else {}
        names, count = beside.get("id2label"), self._label_count()
        labels: dict[str, Any] = {}
        if isinstance(names, dict):
            if count not in (None, len(names)):
                raise CheckpointError(
                    f"{path} names {len(names)} labels, but the adapter beside it has {count}. Put "
                    "the right one there, or remove it to go without names."
                )
            labels = {"id2label": names}
        elif count not in (None, GPTJConfig.from_dict(config).num_labels):
            labels = {"num_labels": count}
        kept = {k: v for k, v in config.items() if not labels or k not in LABEL_FIELDS}
        problem = beside.get("problem_type")
        return {**kept, **labels, **({"problem_type": problem} if problem else {})}

    def without_base(self, why: object) -> CheckpointError:
        """Return the error for a base model that cannot be found."""
        return CheckpointError(
            f"The adapter in {self.folder} needs the model that it was trained on, which cannot be "
            f"found: {why} Load it yourself: gptj.load(base).load_lora({str(self.folder)!r})."
        )

    def _label_count(self) -> int | None:
        """Return the number of labels of its classification head; None if it has none."""
        head = read_weights(self.folder).get(f"{PREFIX}score.weight")
        return head.shape[0] if head is not None and head.shape else None


def open_adapter(path: Path) -> AdapterFolder | None:
    """Return the adapter of a folder that holds one and no model; None for other folders.

    Raises:
        CheckpointError: if its configuration is damaged.
    """
    return AdapterFolder(path, read_config(path / ADAPTER_CONFIG)) if is_adapter(path) else None
