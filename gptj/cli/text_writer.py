"""What ``gptj generate`` prints: a text while it is written, whole texts, or JSON lines."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from gptj.cli.counting_tokenizer import CountingTokenizer
from gptj.generation.options import GenerationConfig
from gptj.system.progress import progress_bar

if TYPE_CHECKING:  # --help need not wait for it
    from gptj.model.pretrained import Pretrained


@dataclass
class Writer:
    """A model with its tokenizer and what it is asked for; every method returns its new texts."""

    model: "Pretrained"
    tokenizer: CountingTokenizer
    options: GenerationConfig

    @property
    def is_single(self) -> bool:
        """Whether there is one text to follow, which can be shown while it is written."""
        return self.options.num_beams == 1 and self.options.num_return_sequences == 1

    def stream(self, prompt: str, start: str) -> list[str]:
        """Print `start` and what follows the prompt, each piece as soon as it is known."""
        pieces = self.model.stream_text(
            prompt, tokenizer=self.tokenizer, generation_config=self.options
        )
        click.echo(start, nl=False)
        written = []
        try:
            for piece in pieces:
                click.echo(piece, nl=False)
                written.append(piece)
        except KeyboardInterrupt:
            click.echo()  # keeps the text so far on a separate line
            raise click.Abort from None
        click.echo()
        return ["".join(written)]

    def whole(self, prompt: str, start: str) -> list[str]:
        """Print `start` and what follows the prompt; several texts each below a title."""
        (texts,) = self._continue([prompt])
        for number, text in enumerate(texts, start=1):
            if len(texts) > 1:
                click.echo(f"=== {number} of {len(texts)} ===")
            click.echo(start + text)
        return texts

    def json_lines(self, prompts: list[str], batch_size: int, quiet: bool) -> list[str]:
        """Print an object per prompt, in their order, and on a terminal how far this has come.

        It has "prompt" and "text", which is only what is new; "texts", a list, where several per
        prompt are asked for.
        """
        several = self.options.num_return_sequences > 1
        written = []
        with progress_bar(len(prompts), "prompt", hidden=quiet) as bar:
            for part in _batches(prompts, batch_size):
                for prompt, texts in zip(part, self._continue(part), strict=True):
                    found = {"texts": texts} if several else {"text": texts[0]}
                    bar.write(json.dumps({"prompt": prompt, **found}))
                    written += texts
                sys.stdout.flush()
                bar.update(len(part))
        return written

    def speed(self, texts: list[str], seconds: float) -> str:
        """Return one line: how many tokens new texts have, and how long they took."""
        count = sum(map(self.tokenizer.count, texts))
        return (
            f"new tokens: {count}, seconds: {seconds:.2f}, tokens per second: {count / seconds:.1f}"
        )

    def _continue(self, prompts: list[str]) -> list[list[str]]:
        """Return the new texts of prompts that are computed at once, a list for each."""
        found = self.model.generate_text(
            prompts,
            tokenizer=self.tokenizer,
            strip_prompt=True,
            batch_size=len(prompts),
            generation_config=self.options,
        )
        return [[texts] if isinstance(texts, str) else texts for texts in found]


def _batches(prompts: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(prompts), size):
        yield prompts[start : start + size]
