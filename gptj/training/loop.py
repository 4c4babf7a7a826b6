"""The training loop: steps, evaluations and checkpoints, from the first or a later step."""

import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gptj.contract.trainer import Trainer
from gptj.datasets.dataset import Example
from gptj.errors import TrainingError
from gptj.model.pretrained import Pretrained
from gptj.spec.update_rule import split_batch
from gptj.system.progress import progress_bar, report
from gptj.training import checkpoints
from gptj.training.checkpoints import TrainingProgress
from gptj.training.data import Data
from gptj.training.evaluation import evaluate
from gptj.training.interruption import Interruption
from gptj.training.learning_rate_schedule import learning_rate
from gptj.training.run_log import History
from gptj.training.settings import Settings

if TYPE_CHECKING:
    from tqdm import tqdm

DEFAULT_OCCASIONS = 10
"""How often a training is evaluated and saved by default."""


@dataclass
class Loop:
    """A training at some step.

    Attributes:
        model: the model to train.
        trainer: fulfils ``gptj.backends.base.Trainer``.
        data: the examples.
        settings: those of the last checkpoint, with the changes that are allowed.
        output: the folder for checkpoints.
        history: the log.
        progress: how far the training has come.
        quiet: whether to show no progress.
    """

    model: Pretrained
    trainer: Trainer
    data: Data
    settings: Settings
    output: Path
    history: History
    progress: TrainingProgress
    quiet: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is seen once; the last incomplete batch is dropped."""
        return self.data.train.steps(self.settings.examples_per_step, drop_last=True)

    @property
    def total(self) -> int:
        """The number of steps."""
        steps = self.settings.epochs * self.steps_per_epoch
        return min(steps, self.settings.max_steps or steps)

    def run(self) -> None:
        """Train to the end.

        Raises:
            TrainingError: for a loss that is not finite, naming step and batch.
            CheckpointError: if a checkpoint cannot be written.
            KeyboardInterrupt: if a signal asked to stop, after a checkpoint.
        """
        if self.progress.step == 0 and not self.history.records:
            self._evaluate()
        first, settings = self.progress.step, self.settings
        batches = self.data.train.stream(
            settings.examples_per_step,
            settings.seed,
            first // self.steps_per_epoch,
            first % self.steps_per_epoch,
            drop_last=True,
        )
        with (
            Interruption() as interruption,
            self._bar(self.total, "step", "Training", initial=first) as bar,
        ):
            for _, examples in zip(range(first, self.total), batches, strict=False):
                bar.set_postfix_str(self._step(examples), refresh=False)
                bar.update()
                self._pause(interruption.asked)

    def _step(self, examples: Example) -> str:
        """Do one step; return its figures as text."""
        settings, step, start = self.settings, self.progress.step, perf_counter()
        rate = learning_rate(
            step, self.total, settings.learning_rate, settings.schedule, settings.warmup
        )
        micro_batches = split_batch(settings.head, examples, settings.accumulate)
        seed = (settings.seed * 1_000_003 + step) % 2**31
        loss, norm = self.trainer.step(micro_batches, rate, seed)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._not_finite(loss, norm, rate)
        self.progress = TrainingProgress(**{**vars(self.progress), "step": step + 1})
        speed = examples["attention_mask"].sum() / (perf_counter() - start)
        figures = {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
        self.history.add(step + 1, figures | {"tokens_per_second": round(float(speed), 1)})
        return f"loss {loss:.3f}, rate {rate:.1e}, {speed:,.0f} tokens/s"

    def _pause(self, asked: bool) -> None:
        """Evaluate and save when due and at the end; stop if a signal asked to."""
        settings, done = self.settings, self.progress.step
        default = max(1, self.total // DEFAULT_OCCASIONS)
        if done % (settings.evaluate_every or default) == 0 or done == self.total:
            self._evaluate()
        if done % (settings.save_every or default) == 0 or done == self.total or asked:
            checkpoints.save(
                self.output, self.model, self.trainer.optimizer, self.progress, settings.keep
            )
        if asked and done < self.total:
            raise KeyboardInterrupt(f"stopped after step {done} of {self.total}, which is saved")

    def _evaluate(self) -> None:
        """Log how well the model does on the held-out examples, if there are any."""
        held_out, step = self.data.held_out, self.progress.step
        if held_out is None:
            return
        with self._bar(len(held_out), "example", "Evaluating", leave=False) as bar:
            size = self.settings.batch_size
            figures = evaluate(self.trainer, held_out, self.settings.head, size, bar.update)
        self.history.add(step, figures)
        shown = ", ".join(f"{name.replace('_', ' ')} {x:.4g}" for name, x in figures.items())
        report(f"step {step} of {self.total}: {shown}", hidden=self.quiet)

    def _bar(self, total: int, unit: str, title: str, **options: Any) -> "tqdm[Any]":
        return progress_bar(total, unit, title, hidden=self.quiet, **options)

    def _not_finite(self, loss: float, norm: float, rate: float) -> TrainingError:
        step, per_epoch = self.progress.step, self.steps_per_epoch
        checkpoints.discard(self.output, step)  # this loss is that of its weights
        last = checkpoints.newest(self.output)
        kept = "There is no checkpoint" if last is None else f"{last} holds the last good state"
        what = f"The loss is {loss}" if not math.isfinite(loss) else f"The gradient norm is {norm}"
        return TrainingError(
            f"{what} at step {step + 1}, which is batch {step % per_epoch + 1} of {per_epoch} in "
            f"epoch {step // per_epoch + 1}, with a learning rate of {rate:.1e}. {kept}. Lower "
            "learning_rate, or raise warmup, and start the same training again: it resumes "
            "there."
        )
