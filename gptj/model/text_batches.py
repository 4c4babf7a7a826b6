"""From many texts to their continuations: batch by batch, the same whatever the batches are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gptj.contract.tokenizer import Tokenizer
from gptj.errors import GPTJError, SequenceTooLong, UnsupportedFeature
from gptj.generation import decoder_choice, text
from gptj.generation.decode_request import DecodeRequest, make_request
from gptj.generation.foreign_options import start_options
from gptj.generation.no_token import NoToken, of_prompt
from gptj.generation.option_precedence import settle
from gptj.generation.option_rules import is_count
from gptj.generation.options import GenerationConfig, prompt_prefix
from gptj.generation.prompts import Inputs
from gptj.tokenizer.lookup import find_tokenizer

if TYPE_CHECKING:
    from gptj.model.generating import TextGeneration


class TextBatches:
    """Texts that a model continues, with complete options.

    Attributes:
        encoded: their tokens.
        numbers: what the noise of each is drawn by, see `sequence_numbers`.
    """

    def __init__(
        self,
        model: "TextGeneration",
        encoded: Sequence[Sequence[int]],
        reader: Tokenizer,
        options: GenerationConfig,
    ) -> None:
        """Keep the texts, encoded. Nothing but text comes back, so that no padding is seen."""
        self.model, self.reader, self.encoded = model, reader, encoded
        self.options = replace(options, return_dict_in_generate=False, pad_token_id=None)
        self.numbers = sequence_numbers(encoded, is_seeded=options.seed is not None)

    def in_order(self, size: int) -> Iterator[list[list[str]]]:
        """Yield the new texts of `size` prompts at a time, a list for each, in their order."""
        for start in range(0, len(self.encoded), size):
            yield self._written(range(len(self.encoded))[start : start + size])

    def by_length(self, size: int) -> list[list[str]]:
        """Return the new texts, a list for each prompt; those of similar lengths run together."""
        found: list[list[str]] = [[]] * len(self.encoded)
        for batch in text.batch_indices(self.encoded, size):
            for index, texts in zip(batch, self._written(batch), strict=True):
                found[index] = texts
        return found

    def stream(self) -> Iterator[int]:
        """Yield the new tokens of a single text, each before the next is computed."""
        steps = decoder_choice.stream(self._request([0]))
        return (int(token) for step in steps for token in step[0])

    def _written(self, batch: Sequence[int]) -> list[list[str]]:
        """Return the new texts of some prompts, a list for each.

        Raises:
            NoToken, SequenceTooLong: with the number of the prompt among all.
        """
        longest = max(batch, key=lambda index: len(self.encoded[index]))
        with naming_prompt(longest, len(self.encoded), SequenceTooLong):
            request, count = self._request(batch), self.options.num_return_sequences
            width = request.inputs.given.shape[1]
            try:
                tokens = self.model.backend.to_numpy(decoder_choice.decode(request))[:, width:]
            except NoToken as error:
                raise of_prompt(error, batch) from None
        texts = [text.decode_text(new, self.reader, self.options) for new in tokens]
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def _request(self, batch: Sequence[int]) -> DecodeRequest:
        ids, mask = text.pad([self.encoded[index] for index in batch])
        numbers = [self.numbers[index] for index in batch]
        inputs = Inputs.of(self.model.backend, self.model, ids, mask if len(batch) > 1 else None)
        decode = None if self.options.stop_strings is None else self.reader.decode
        return make_request(inputs, self.options, numbers=numbers, decode=decode)


def text_batches(
    model: "TextGeneration",
    texts: Sequence[str],
    tokenizer: Tokenizer | None,
    options: Mapping[str, Any],
) -> TextBatches:
    """Return texts with the options of a call from text to text, complete and settled.

    Raises:
        ArgumentError: for an empty text, or an unknown option.
        UnsupportedFeature: for a model without a language-model head.
    """
    check_head(model)
    reader = tokenizer or find_tokenizer(model.source_folder)
    prefix = prompt_prefix(model.config)
    encoded = []
    for number, one in enumerate(texts):
        with naming_prompt(number, len(texts), GPTJError):
            encoded.append(text.encode(reader, prefix + one))
    unseen = len(reader.encode(prefix)) if prefix else 0
    changes = dict(options)
    given = changes.pop("generation_config", None)
    settings, foreign = start_options(model.config, model.own_options, given)
    changes = {**foreign, **changes}
    if given is None:
        longest = max(map(len, encoded), default=0) - unseen
        settings = GenerationConfig.for_task(model.config, settings, longest)
    settings = settle(settings.updated(**changes), changes, model.config.vocab_size)
    return TextBatches(model, encoded, reader, beyond(settings, unseen))


@contextmanager
def naming_prompt(number: int, count: int, kind: type[GPTJError]) -> Iterator[None]:
    """Put the number of a prompt before errors of a kind, where it is one of several."""
    try:
        yield
    except kind as error:
        if count == 1:
            raise
        raise type(error)(f"Prompt {number}: {error}") from error


def check_head(model: "TextGeneration") -> None:
    """Refuse a model that writes no text.

    Raises:
        UnsupportedFeature: naming its head.
    """
    if model.head != "causal_lm":
        raise UnsupportedFeature(
            f"generate() needs a language-model head; this model's head is {model.head!r}."
        )


def sequence_numbers(sequences: Sequence[Sequence[int]], is_seeded: bool) -> list[int]:
    """Return what the noise of each sequence is drawn by.

    With a seed it is how many equal ones there are before: a prompt has one text per seed, whatever
    stands beside it, and copies of it have different texts. Without a seed it is the place.
    """
    if not is_seeded:
        return list(range(len(sequences)))
    seen: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for sequence in map(tuple, sequences):
        numbers.append(seen[sequence])
        seen[sequence] += 1
    return numbers


def beyond(options: GenerationConfig, prefix: int) -> GenerationConfig:
    """Return options whose lengths do not count the tokens of a prefix."""
    most, least = options.max_length, options.min_length
    return replace(
        options,
        max_length=most + prefix if most is not None and is_count(most, 1) else most,
        min_length=least + prefix if is_count(least, 1) else least,
    )
