"""What ``gptj generate`` prints: a text while it is written, whole texts, or JSON lines."""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gptj.cli.counting_tokenizer import CountingTokenizer
from gptj.errors import GPTJError
from gptj.generation.option_precedence import settled
from gptj.generation.options import GenerationConfig
from gptj.system.progress import progress_bar

if TYPE_CHECKING:  # --help need not wait for it
    from gptj.model.pretrained import Pretrained
    from gptj.model.text_batches import TextBatches


@dataclass
class Writer:
    """A model with its tokenizer and what it is asked for; every method returns its new texts.

    Attributes:
        own: the model's options.
        given: those of the command, by name.
    """

    model: "Pretrained"
    tokenizer: CountingTokenizer
    own: GenerationConfig
    given: dict[str, Any]

    @property
    def is_single(self) -> bool:
        """Whether there is one text to follow, which can be shown while it is written."""
        options, _ = settled(
            self.own.updated(**self.given), self.given, self.model.config.vocab_size
        )
        return options.num_beams == 1 and options.num_return_sequences == 1

    def stream(self, prompt: str, start: str) -> list[str]:
        """Print `start` and what follows the prompt, each piece as soon as it is known."""
        pieces = self.model.stream_text(
            prompt, tokenizer=self.tokenizer, generation_config=self.own, **self.given
        )
        click.echo(start, nl=False)
        written = []
        try:
            for piece in pieces:
                click.echo(piece, nl=False)
                written.append(piece)
        except (KeyboardInterrupt, GPTJError):
            click.echo()  # keeps the text so far on a separate line
            raise
        click.echo()
        return ["".join(written)]

    def whole(self, prompt: str, start: str) -> list[str]:
        """Print `start` and what follows the prompt; several texts each below a title."""
        ((texts,),) = self._batches([prompt]).in_order(1)
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
        written = []
        batches = self._batches(prompts)
        several = batches.options.num_return_sequences > 1
        left = iter(prompts)
        with progress_bar(len(prompts), "prompt", hidden=quiet) as bar:
            for found in batches.in_order(batch_size):
                for texts in found:
                    text = {"texts": texts} if several else {"text": texts[0]}
                    bar.write(json.dumps({"prompt": next(left), **text}))
                    written += texts
                sys.stdout.flush()
                bar.update(len(found))
        return written

    def speed(self, texts: list[str], seconds: float) -> str:
        """Return one line: how many tokens new texts have, and how long they took."""
        count = sum(map(self.tokenizer.count, texts))
        return (
            f"new tokens: {count}, seconds: {seconds:.2f}, tokens per second: {count / seconds:.1f}"
        )

    def _batches(self, prompts: list[str]) -> "TextBatches":
        """Return prompts with the options, in batches; each option without effect is named once."""
        from gptj.model.text_batches import text_batches  # keeps --help fast

        options = {"generation_config": self.own, **self.given}
        return text_batches(self.model, prompts, self.tokenizer, options)
