"""One call of generate(), checked: what every mode of decoding starts from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan
from gptj.generation.options import GenerationConfig
from gptj.generation.streaming import Streamer

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Prompt:
    """Texts to continue, as arrays; every row ends with its last token.

    Attributes:
        given: (B, G) ids that are returned in front of the new ones: as the caller has padded them.
        ids: (B, T), padding on the left; T is 0 beside `embeds`.
        mask: (B, T) of 1 and 0, or as wide as `embeds`.
        embeds: (B, T, E) of the framework, in the place of the first run of `ids`.
        cache: keys and values of the first tokens, which need not be run again.
    """

    given: Ids
    ids: Ids
    mask: Mask
    embeds: Any = None
    cache: Any = None

    @property
    def width(self) -> int:
        """Places that the prompt takes in the context."""
        return int(self.mask.shape[1])


@dataclass(frozen=True)
class DecodeRequest:
    """What is asked of a decoding mode.

    Attributes:
        backend: fulfils ``gptj.backends.base.Backend``.
        processors: the caller's own, ``(ids, scores) -> scores`` in tensors of the framework.
        criteria: the caller's own, ``(ids, scores) -> bool or (B,) of them``.
        assistant: a smaller model of the same vocabulary that guesses tokens.
        decode: turns token ids into text, for stop strings.
        suits_loop: whether the backend's own loop can do all of it.
    """

    backend: Any
    model: Any
    prompt: Prompt
    options: GenerationConfig
    plan: DecodePlan
    processors: Sequence[Any] = ()
    criteria: Sequence[Any] = ()
    streamer: Streamer | None = None
    assistant: Any = None
    decode: Callable[[Any], str] | None = None
    uses_compiled_loop: bool = False

    def repeated(self, count: int) -> "DecodeRequest":
        """Return the same request with every prompt `count` times, copies side by side."""
        if count == 1:
            return self
        prompt, backend = self.prompt, self.backend
        names = ("given", "ids", "mask")
        arrays = {name: np.repeat(getattr(prompt, name), count, axis=0) for name in names}
        embeds, cache = prompt.embeds, prompt.cache
        if embeds is not None:
            copies = np.repeat(backend.to_numpy(embeds), count, axis=0)
            embeds = backend.from_numpy(copies, self.model)
        cache = None if cache is None else cache.expand(count)
        return replace(self, prompt=Prompt(**arrays, embeds=embeds, cache=cache))
