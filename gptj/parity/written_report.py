"""What every report can be written as: words, a page, a block of a model card, a badge."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from gptj.parity import model_card
from gptj.system.atomic import write_text


@dataclass(frozen=True)
class Report:
    """All numbers of a comparison, as `to_dict` gives them; every file is written whole or not.

    Attributes:
        content: plain dictionaries, lists and numbers, ready for JSON.
    """

    content: dict[str, Any]

    words: ClassVar[ModuleType]
    page: ClassVar[ModuleType]

    @property
    def passed(self) -> bool:
        """Whether something was compared, and nothing is off."""
        return bool(self.content["passed"])

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers."""
        return self.content

    def __str__(self) -> str:
        """Return the report as text for a terminal."""
        return str(self.words.render(self.content))

    def save_html(self, path: str | Path) -> None:
        """Write the report as one self-contained page."""
        write_text(Path(path), self.page.render(self.content))

    def save_card(self, path: str | Path) -> None:
        """Write a section for a model card, in Markdown."""
        write_text(Path(path), model_card.section(self.content, self.words.verdict(self.content)))

    def save_badge(self, path: str | Path) -> None:
        """Write a badge as JSON, in the form of shields.io's endpoint badges."""
        write_text(Path(path), json.dumps(model_card.badge(self.content)) + "\n")
