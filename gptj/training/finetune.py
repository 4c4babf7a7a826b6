"""Fine-tuning from files to a model folder: everything around the loop."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Unpack

from gptj import api
from gptj.backends import FRAMEWORKS, get_backend
from gptj.checkpoint.formats import FORMS
from gptj.checkpoint.saving import replacing_weights
from gptj.contract.backend import Backend
from gptj.datasets.source_files import Paths
from gptj.errors import ArgumentError, BackendUnavailable, UnsupportedFeature, choices
from gptj.model.config import GPTJConfig
from gptj.model.pretrained import Pretrained
from gptj.spec.quantization import check_trainable
from gptj.spec.types import Device
from gptj.system.atomic import folder_named, refuse_file, staged
from gptj.system.progress import report
from gptj.system.versions import install_command
from gptj.tokenizer.lookup import add_tokenizer
from gptj.training import checkpoints
from gptj.training.checkpoints import TrainingProgress
from gptj.training.data import Data, open_data
from gptj.training.loop import Loop
from gptj.training.model_card import write_card
from gptj.training.options import TrainingOptions
from gptj.training.run_log import History, LogEntry
from gptj.training.serving_command import serving_command
from gptj.training.settings import Settings

EXTRAS: Final = ("matplotlib", "tensorboardX")
"""The packages of the extra ``train``: they draw the curve and write the logs."""


@dataclass(frozen=True)
class Finetuned:
    """The result of a training.

    Attributes:
        folder: the model, or its adapter, for ``gptj.load``; its model card and its logs.
        steps: the number of updates.
        records: the log entries of every step and evaluation, in order.
        command: a shell command that uses the folder.
    """

    folder: Path
    steps: int
    records: list[LogEntry]
    command: str

    @property
    def figures(self) -> list[LogEntry]:
        """The evaluations, from before the first step to after the last."""
        return [record for record in self.records if "held_out_loss" in record]


def finetune(
    model: str | Path,
    data: Paths,
    output: str | Path,
    *,
    held_out_data: Paths | None = None,
    backend: str | None = None,
    device: Device | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
    **settings: Unpack[TrainingOptions],
) -> Finetuned:
    """Train a model on files and write a folder that every backend loads.

    The same call resumes from the newest checkpoint in `output`, whatever ended the training, also
    in another framework: weights and moments are kept under their canonical names. Only settings
    that do not affect earlier steps may change.

    Args:
        model: a name as in ``gptj.load``.
        data: files, folders or patterns, as in ``gptj.text_dataset`` for a language model,
            ``gptj.classification_dataset`` or ``gptj.question_dataset`` for the other heads.
        output: the folder for model, model card, checkpoints and logs.
        held_out_data: files to evaluate on, instead of a share of `data`.
        backend, device: as in ``gptj.load``.
        cache_dir: the folder for tokenized data, as in ``gptj.text_dataset``.
        quiet: show no progress.
        settings: the fields of ``gptj.training.settings.Settings``.

    Raises:
        ArgumentError: for invalid settings, or an output folder that holds something else.
        DataError: for files that are missing, empty or of another format.
        TrainingError: for a loss that is not finite, naming step and batch.
        CheckpointError: if a checkpoint cannot be written.
        UnsupportedFeature: for a backend that does not train.
        KeyboardInterrupt: if a signal asked to stop; the progress is saved.
    """
    chosen, folder = Settings.of(**settings), folder_named(output)
    _require_extras()
    framework = _training_backend(backend)
    _refuse_other_model(folder)
    with checkpoints.only_training(folder):
        config, tokenizer = GPTJConfig.from_pretrained(model), api.load_tokenizer(model)
        examples = open_data(data, held_out_data, chosen, config, tokenizer, cache_dir)
        values = checkpoints.as_json(chosen)
        progress = TrainingProgress(0, str(model), examples.fingerprint(), values, framework.name)
        earlier = _earlier(folder, progress, quiet)
        load = {"backend": framework.name, "device": device}
        net, trainer, progress = _start(progress, earlier, chosen, examples, load)
        checkpoints.check_room(folder, net, chosen.keep)
        with History(folder, progress.step) as history:
            loop = Loop(net, trainer, examples, chosen, folder, history, progress, quiet)
            _tell(loop, framework, quiet)
            loop.run()
            _finish(loop, framework.versions(), data)
    command = serving_command(folder, chosen.head)
    return Finetuned(folder, loop.progress.step, history.records, command)


def _training_backend(name: str | None) -> Backend:
    framework = get_backend(name)
    if not framework.capabilities.training:
        raise UnsupportedFeature(
            f"The backend {framework.name!r} does not train; accepted are {choices(FRAMEWORKS)}. "
            f"One is installed with {install_command('torch')}, or [tf], or [flax]."
        )
    return framework


def _require_extras() -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"Fine-tuning needs {' and '.join(missing)}, for the picture of the curve and the "
            f"logs: {install_command('train')}."
        )


def _refuse_other_model(folder: Path) -> None:
    """Refuse a folder, which may not exist, with a model from elsewhere.

    Raises:
        CheckpointError: if it is no folder.
        ArgumentError: for a folder with a model that was not trained there.
    """
    refuse_file(folder)
    names = [path.name for path in folder.glob("*")]
    holds_weights = any(form.owns(name) for form in FORMS for name in names)
    if holds_weights and checkpoints.newest(folder) is None:
        raise ArgumentError(
            f"{folder} holds a model that was not trained there, and would be overwritten. Give "
            "another output folder."
        )


def _earlier(folder: Path, progress: TrainingProgress, quiet: bool) -> Path | None:
    """Return the checkpoint to resume from, or None; report settings that changed."""
    found = checkpoints.newest(folder)
    if found is None:
        return None
    changed = checkpoints.check_same(checkpoints.read_progress(found), progress, folder)
    changes = [f"{name} {old} -> {new}" for name, (old, new) in changed.items()]
    said = f"; changed: {', '.join(changes)}" if changes else ""
    report(f"Resuming from {found}{said}", hidden=quiet)
    return found


def _start(
    progress: TrainingProgress,
    earlier: Path | None,
    settings: Settings,
    data: Data,
    load: dict[str, Any],
) -> tuple[Any, Any, TrainingProgress]:
    """Return a model, its trainer and its progress, new or from a checkpoint."""
    framework = get_backend(load["backend"])
    options = {"head": settings.head, **load, **_precision(framework, settings), **data.labels()}
    model = api.load(earlier or progress.model, **options)
    if earlier is not None:
        progress = replace(progress, step=checkpoints.read_progress(earlier).step)
    elif settings.lora is not None:
        _add_lora(model, settings)
    else:
        check_trainable(model.config, "Training without lora")
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    trainer = framework.trainer(model, settings.rule, "bfloat16" if settings.bf16 else "float32")
    if earlier is not None:
        trainer.optimizer = model.load_optimizer(earlier, trainer.optimizer)
    return model, trainer, progress


def _precision(framework: Backend, settings: Settings) -> dict[str, Any]:
    """Return the dtype options of `load`; frozen weights need no float32."""
    if not settings.bf16:
        return {"dtype": "float32"}
    if settings.lora is not None:
        return {"dtype": "bfloat16"}
    options: dict[str, Any] = framework.mixed("bfloat16")
    return options


def _add_lora(model: Pretrained, settings: Settings) -> None:
    rank = settings.lora
    assert rank is not None
    alpha = 2.0 * rank if settings.lora_alpha is None else settings.lora_alpha
    targets = settings.lora_targets
    model.add_lora(rank, alpha, settings.lora_dropout, targets, settings.seed)


def _finish(loop: Loop, versions: dict[str, str], data: Paths) -> None:
    """Write the finished model and its card, in one step."""
    named = [data] if isinstance(data, (str, Path)) else data
    names = ", ".join(f"`{Path(name).name}`" for name in named)
    with staged(loop.output, replacing_weights(loop.output, "safetensors")) as new:
        checkpoints.save_model(loop.model, new)
        if loop.model.lora is not None:
            add_tokenizer(new, loop.model.source_folder, loop.model.config)
        write_card(new, loop.output, loop.progress, loop.history, names, versions)


def _tell(loop: Loop, framework: Backend, quiet: bool) -> None:
    """Report what is about to be trained."""
    held_out = loop.data.held_out
    report(
        f"{loop.progress.model} on {framework.name}: {len(loop.data.train):,} examples of "
        f"{loop.data.train.length} tokens, {0 if held_out is None else len(held_out):,} held out; "
        f"{loop.total:,} steps of {loop.settings.examples_per_step} examples",
        hidden=quiet,
    )
