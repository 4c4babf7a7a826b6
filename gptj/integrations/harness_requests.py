"""The three kinds of requests of an evaluation harness, answered by a model of any backend.

The rules are those of lm-eval for causal models, so that scores of one model are the same there and
here: what comes before an empty context, where a context ends, what is left out of a long one. No
harness is needed for them.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gptj.errors import ArgumentError, InputError, SequenceTooLong
from gptj.generation.option_precedence import settle
from gptj.generation.option_rules import as_tuple
from gptj.generation.options import GenerationConfig
from gptj.model.pretrained import Pretrained
from gptj.model.text_batches import TextBatches
from gptj.scoring.score_requests import Encoder, ScoreRequest
from gptj.scoring.token_log_probs import each_window
from gptj.scoring.windows import windows
from gptj.system.progress import progress_bar
from gptj.tokenizer import GPTJTokenizer

log = logging.getLogger("gptj")

LENGTH_NAMES: Final = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the number of new tokens; the first that is given counts."""


@dataclass(frozen=True)
class HarnessRequests:
    """A model and how it answers requests, each with the number of the request that it is for.

    Attributes:
        model: with a language-model head.
        tokenizer: of the model.
        batch_size: how many sequences are computed at once.
        max_length: how many tokens the model reads at most.
        max_gen_toks: new tokens of a text whose task does not say how many.
        seed: of sampling.
    """

    model: Pretrained
    tokenizer: GPTJTokenizer
    batch_size: int
    max_length: int
    max_gen_toks: int
    seed: int

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context.

        Raises:
            ArgumentError: if neither the tokenizer nor the configuration has one.
        """
        tokenizer = self.tokenizer
        tokens = (tokenizer.bos_token_id, tokenizer.eos_token_id, self.model.config.bos_token_id)
        for token in tokens:
            if token is not None:
                return int(token)
        raise ArgumentError(
            "There is no token for an empty context. Give a tokenizer with a bos_token or an "
            "eos_token."
        )

    def log_likelihoods(
        self, pairs: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        """Yield how likely continuations are, and whether each is what greedy decoding gives.

        Args:
            pairs: context and continuation. Blanks at the end of a context belong to what follows.

        Raises:
            InputError: for a continuation without a token that could be scored.
            SequenceTooLong: for a continuation that is longer than the context of the model.
        """
        found = [self._pair(*pair, index) for index, pair in enumerate(pairs)]
        requests = [self._shortened(request, index) for index, request in enumerate(found)]
        cut = sum(len(a.ids) != len(b.ids) for a, b in zip(found, requests, strict=True))
        self._warn_of_cut(cut, len(pairs), self.max_length + 1)
        for index, slices in self._scored(requests, stride=None):
            numbers, greedy = slices[0]
            yield index, (float(numbers.sum()), bool(greedy.all()))

    def rolling_log_likelihoods(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Yield how likely whole texts are; long ones are cut into windows that do not overlap.

        The last window of a text reads as much as fits before the tokens that it scores.
        """
        encoder = self._encoder(self.prefix_token_id)
        places = [index for index, text in enumerate(texts) if text]
        yield from ((index, 0.0) for index, text in enumerate(texts) if not text)
        requests = [encoder.whole(texts[index], index) for index in places]
        for number, slices in self._scored(requests, stride=self.max_length):
            yield places[number], float(sum(numbers.sum() for numbers, _ in slices))

    def continuations(
        self, requests: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[tuple[int, str]]:
        """Yield what the model writes after contexts, up to the first of the strings in `until`.

        Args:
            requests: context, and options: `until`, `max_gen_toks` or another of its names, and
                those of ``model.generate``.

        Raises:
            ArgumentError: for an unknown option, or no room for so many new tokens.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for index, (_, options) in enumerate(requests):
            groups[json.dumps(options, sort_keys=True, default=str)].append(index)
        with progress_bar(len(requests), "text", "Generating", delay=2) as bar:
            for places in groups.values():
                contexts = [requests[index][0] for index in places]
                for number, text in self._continued(contexts, requests[places[0]][1]):
                    yield places[number], text
                    bar.update()

    def _continued(
        self, contexts: Sequence[str], given: Mapping[str, Any]
    ) -> Iterator[tuple[int, str]]:
        """Yield the continuations of contexts with the same options."""
        options = self.generation_options(given)
        room = self.max_length - options["max_new_tokens"]
        if room < 1:
            raise ArgumentError(
                f"There is no room for max_gen_toks = {options['max_new_tokens']} new tokens and a "
                f"context in max_length = {self.max_length}. Give a smaller max_gen_toks."
            )
        encoder = self._encoder(self.prefix_token_id)
        encoded = [
            encoder.encode(text, index) or list(encoder.start)
            for index, text in enumerate(contexts)
        ]
        self._warn_of_cut(sum(len(ids) > room for ids in encoded), len(encoded), room)
        order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]))
        batches = TextBatches(
            self.model,
            [encoded[index][-room:] for index in order],
            self.tokenizer,
            self._settled(options),
        )
        places = iter(order)
        for batch in batches.in_order(self.batch_size):
            for (text,) in batch:
                yield next(places), text

    def generation_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a task's options under the names of ``model.generate``.

        A task that says nothing of `do_sample` samples if it has a `temperature` above 0.

        Raises:
            ArgumentError: for `max_length`, which would count the context.
        """
        options = dict(given)
        if "max_length" in options:
            raise ArgumentError(
                "max_length would count the context, whose length differs from text to text; "
                "tasks say max_gen_toks."
            )
        lengths = [options.pop(name, None) for name in LENGTH_NAMES]
        options["max_new_tokens"] = int(
            next((value for value in lengths if value is not None), self.max_gen_toks)
        )
        if options.get("do_sample") is None:
            options["do_sample"] = float(options.get("temperature", 0)) > 0
        if not options["do_sample"]:
            options.pop("temperature", None)
        until = options.pop("until", None) or []
        stops = [until] if isinstance(until, str) else until
        options["stop_strings"] = [stop for stop in stops if stop] or None
        return {"seed": self.seed, **options} if options["do_sample"] else options

    def _settled(self, options: Mapping[str, Any]) -> GenerationConfig:
        """Return complete options; a text ends with the tokenizer's end token, too."""
        config = self.model.config
        own = GenerationConfig.from_model(config, self.model.generation_config)
        if "num_return_sequences" in options:
            raise ArgumentError("A request has one text: leave out num_return_sequences.")
        settings = settle(own.updated(**options), options, config.vocab_size)
        ends = {self.tokenizer.eos_token_id}
        if settings.eos_token_id is not None:
            ends |= {*as_tuple(settings.eos_token_id)}
        return replace(settings, eos_token_id=[end for end in ends if end is not None] or None)

    def _encoder(self, *start: int) -> Encoder:
        return Encoder(self.tokenizer, self.model.config.vocab_size, start)

    def _pair(self, context: str, continuation: str, index: int) -> ScoreRequest:
        """Return the request to score a continuation; an empty context is the prefix token."""
        if context.rstrip():
            return self._encoder().continuation(context, continuation, index)
        prefix = self.prefix_token_id
        request = self._encoder(prefix).continuation(context, continuation, index)
        if request.ids[1] != prefix:
            return request
        if len(request.ids) == 2:
            raise InputError(
                f"Request {index} has no context, and its continuation is the prefix token alone, "
                f"{continuation!r}: there is nothing to score."
            )
        return replace(request, ids=request.ids[1:])

    def _shortened(self, request: ScoreRequest, index: int) -> ScoreRequest:
        """Return a request without the first tokens of a context that is too long."""
        excess = max(len(request.ids) - self.max_length - 1, 0)
        if request.first - excess < 1:
            raise SequenceTooLong(
                f"The continuation of request {index} has {len(request.ids) - request.first} "
                f"tokens, and the model reads at most max_length = {self.max_length}."
            )
        return replace(request, ids=request.ids[excess:], first=request.first - excess)

    def _warn_of_cut(self, cut: int, total: int, limit: int) -> None:
        if cut:
            log.warning(
                "%d of %d requests have more than %d tokens: the first of their contexts are left "
                "out.",
                *(cut, total, limit),
            )

    def _scored(
        self, requests: Sequence[ScoreRequest], stride: int | None
    ) -> Iterator[tuple[int, list[tuple[Any, Any]]]]:
        """Yield what the windows of each request have found, as soon as all of them have."""
        cut = windows(requests, self.max_length, stride)
        missing = np.bincount([window.request for window in cut], minlength=len(requests))
        found: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
        for number, answer in each_window(self.model.backend, self.model, cut, self.batch_size):
            request = cut[number].request
            found[request].append(answer)
            if len(found[request]) == missing[request]:
                yield request, found.pop(request)
