"""Who is measured: a system with a dtype, the command that starts it, and who fits beside whom."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Contender:
    """A system that loads a model in a dtype.

    Attributes:
        system: its name in tables.
        dtype: of the computation.
        model: what its process is asked to load.
        command: what starts the process.
        train: whether the model is loaded to be trained.
        need: bytes that it will probably hold.
        environment: variables of the process.
    """

    system: str
    dtype: str
    model: str
    command: tuple[str, ...]
    train: bool = False
    need: int = 0
    environment: Mapping[str, str] = field(default_factory=lambda: QUIET, hash=False)

    @property
    def key(self) -> dict[str, Any]:
        """What its records are found by."""
        return {"system": self.system, "dtype": self.dtype, "train": self.train}

    def __str__(self) -> str:
        return f"{self.system}, {self.dtype}{', training' if self.train else ''}"


def backend_command(name: str) -> tuple[str, ...]:
    """Return the command that starts a backend of gptj as a system."""
    return (sys.executable, "-m", "gptj.bench.worker", name)


def groups(contenders: Iterable[Contender], room: int) -> list[list[Contender]]:
    """Return who is loaded at the same time: those of one dtype and kind, as long as they fit.

    Args:
        room: bytes that a group may need. One that needs more is alone.
    """
    found: list[list[Contender]] = []
    for contender in contenders:
        alike = [
            group
            for group in found
            if (group[0].dtype, group[0].train) == (contender.dtype, contender.train)
            and sum(member.need for member in group) + contender.need <= room
        ]
        if alike:
            alike[0].append(contender)
        else:
            found.append([contender])
    return found
