"""When a sequence ends, and when all work does."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.option_rules import as_tuple
from gptj.generation.prompts import Ids

Bools = npt.NDArray[np.bool_]


class Stopping:
    """End-of-text tokens, stop strings, the caller's own criteria, and the time."""

    def __init__(self, request: DecodeRequest) -> None:
        """Start the clock."""
        options, plan = request.options, request.plan
        self.request = request
        self.ends = plan.eos_token_ids
        self.deadline = None if options.max_time is None else monotonic() + options.max_time
        texts = () if options.stop_strings is None else as_tuple(options.stop_strings)
        self.strings = StopStrings(texts, request.decode) if texts else None

    def ended(self, ids: Ids, length: int, scores: npt.NDArray[Any] | None = None) -> Bools:
        """Return which of the texts (B, L), whose prompt has `length` tokens, have ended.

        Args:
            scores: (B, V) that the last token was chosen by, for the caller's criteria.
        """
        ended = np.isin(ids[:, -1], self.ends)
        if self.strings is not None:
            ended |= np.array([self.strings.found_in(text[length:]) for text in ids])
        for criterion in self.request.criteria:
            ended |= self._ask(criterion, ids, scores)
        return ended

    @property
    def needs_scores(self) -> bool:
        """Whether somebody looks at them."""
        return bool(self.request.criteria)

    def out_of_time(self) -> bool:
        """Return whether no new step may begin."""
        return self.deadline is not None and monotonic() > self.deadline

    def _ask(
        self, criterion: Callable[..., Any], ids: Ids, scores: npt.NDArray[Any] | None
    ) -> Bools:
        backend, model = self.request.backend, self.request.model
        tensor = None if scores is None else backend.from_numpy(scores, model)
        answer = criterion(backend.from_numpy(ids, model), tensor)
        verdict = np.asarray(answer if isinstance(answer, bool) else backend.to_numpy(answer))
        if verdict.shape not in ((), (1,), (len(ids),)):
            raise ArgumentError(
                f"A stopping criterion must return a bool, or one per sequence, ({len(ids)},); "
                f"{criterion!r} returned {verdict.shape}."
            )
        return np.broadcast_to(verdict.astype(bool), (len(ids),))


class StopStrings:
    """Texts that end a sequence, wherever the borders of its tokens are."""

    def __init__(self, texts: Sequence[str], decode: Callable[[Any], str] | None) -> None:
        """Keep the texts.

        Raises:
            ArgumentError: where nobody can turn tokens into text.
        """
        if decode is None:
            raise ArgumentError("stop_strings needs tokenizer=, to read what is written.")
        self.texts, self.decode = tuple(texts), decode
        # a token has at least one byte, so that no more of them can hold a text's end
        self.reach = max(len(text.encode()) for text in texts)

    def found_in(self, new: Ids) -> bool:
        """Return whether the last of some new tokens has completed one of the texts."""
        text = self.decode(new[-self.reach :])
        return any(stop in text for stop in self.texts)


def trim(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of the stop strings in it."""
    places = [text.find(stop) for stop in stops if stop in text]
    return text[: min(places, default=len(text))]
