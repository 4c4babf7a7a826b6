"""What a target of an export is: what it holds, how it is written, and how its files are run."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.exporting.source import Source
from gptj.exporting.tolerances import TOLERANCES
from gptj.parity.tolerances import Tolerance

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[Any]


class Runner(ABC):
    """Written files in their own runtime, without this package's models.

    Attributes:
        sides: where sequences may be padded: ``"left"``, ``"right"``, both or nowhere.
        is_batched: whether it takes several sequences at once.
        every_position: whether outputs are those of all positions, or of the last one alone.
    """

    sides: tuple[str, ...] = ("left", "right")
    is_batched: bool = True
    every_position: bool = True

    @abstractmethod
    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return the outputs of the head by name, for ids and mask (B, T), int64.

        Each is (B, T, ...) as in ``gptj.spec.heads``; (B, 1, V) where `every_position` is False;
        ``log_probs`` (B, T, V) instead of ``logits`` where the runtime has no others. What is at
        padding is not looked at.
        """

    def cached(self, ids: Ints, mask: Ints, prefilled: int) -> Floats | None:
        """Return logits (B, T, V), or last hidden states, computed with the runtime's cache.

        The first `prefilled` positions are one call, and each of the others is one. Masks are
        padded on the left only. None where the files have no cache.
        """
        return None

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Return the `count` most likely tokens after prompts (B, T) without padding, (B, count).

        With the runtime's own loop where it has one. What follows an end token is not looked at.
        None where the files give no text.
        """
        length = ids.shape[1]
        for _ in range(count):
            logits = self.outputs(ids, np.ones_like(ids))["logits"][:, -1]
            ids = np.hstack((ids, logits.argmax(axis=-1)[:, None]))
        return ids[:, length:]

    def close(self) -> None:
        """Let go of files and processes."""
        return


class Target(ABC):
    """A form of a model that another program runs.

    Attributes:
        name: what ``to=`` takes.
        summary: what it is, in one line.
        heads: of ``gptj.spec.heads.HEADS``, which it can hold.
        dtypes: of the weights and of the computation.
        quantizations: what ``quantize=`` takes, where the target has its own.
        backend: the backend of this package that writes it, if any.
        writers: the packages that write it: what pip installs -> what Python imports.
        runtime: the same for what runs it.
    """

    backend: ClassVar[str | None] = None
    name: ClassVar[str]
    summary: ClassVar[str]
    heads: ClassVar[tuple[str, ...]] = ("causal_lm",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    quantizations: ClassVar[tuple[str, ...]] = ()
    writers: ClassVar[Mapping[str, str]] = {}
    runtime: ClassVar[Mapping[str, str]] = {}

    def check(self, source: Source) -> None:
        """Refuse what the target cannot hold, before anything is written.

        Head, dtype, quantization and the packages that write have been checked.

        Raises:
            UnsupportedFeature: naming the reason, and what to do.
        """
        return

    @abstractmethod
    def write(self, source: Source, folder: Path) -> None:
        """Write the files into a new folder, which has the tokenizer's files already."""

    @abstractmethod
    def open(self, folder: Path, source: Source) -> Runner:
        """Open the written files in their runtime.

        Args:
            source: for names of heads and sizes; no weights are taken from it.
        """

    @abstractmethod
    def usage(self, source: Source) -> str:
        """Return how to run the files, in Markdown: a command, or a few lines of a program."""

    def memory_bytes(self, source: Source) -> int:
        """Return the memory that running the files takes."""
        return sum(tensor.nbytes for tensor in source.tensors.values())

    def tolerance(self, source: Source) -> Tolerance | None:
        """Return how far the runtime may be from the oracle; None where no number would mean much.

        By default what rounding in the dtype explains; a target states more with the reason.
        """
        return None if source.quantize else TOLERANCES[source.dtype]


def missing(packages: Mapping[str, str]) -> list[str]:
    """Return those of the packages, by the name that pip installs, that are not there."""
    return [package for package, module in packages.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def install(packages: list[str]) -> str:
    """Return the command that installs packages."""
    return f"pip install {' '.join(packages)}"


def versions(target: Target) -> dict[str, str]:
    """Return the versions of the packages that write and run a target, as far as they are there."""
    found = {}
    for package in {**target.writers, **target.runtime}:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
