"""Prompts: the caller's tensors, and the arrays that the reference decoder reads."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.contract.cache import Cache
from gptj.contract.decoding import DecodePlan
from gptj.contract.model import Model
from gptj.errors import ArgumentError, InputError
from gptj.generation.options import GenerationConfig
from gptj.spec.checks import check_prompt
from gptj.spec.types import Tensor, TensorLike

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Prompt:
    """Sequences to continue, as arrays; each ends with its last token.

    Attributes:
        given: (B, G) ids that are returned in front of the new ones, with the caller's padding.
        ids: (B, T), padding on the left; T is 0 beside `embeds`.
        mask: (B, T) of 1 and 0, or as wide as `embeds`.
        embeds: (B, T, E) of the framework, used instead of `ids` in the prefill.
        cache: keys and values of the first tokens, which are not run again.
    """

    given: Ids
    ids: Ids
    mask: Mask
    embeds: Tensor | None = None
    cache: Cache | None = None

    @property
    def width(self) -> int:
        """Places that the prompt takes in the context."""
        return int(self.mask.shape[1])

    def repeated(self, count: int, backend: Backend, model: Model) -> "Prompt":
        """Return every prompt `count` times, copies side by side."""
        given, ids = (np.repeat(array, count, axis=0) for array in (self.given, self.ids))
        mask = np.repeat(self.mask, count, axis=0)
        embeds = None if self.embeds is None else _repeated(self.embeds, count, backend, model)
        cache = None if self.cache is None else self.cache.expand(count)
        return Prompt(given, ids, mask, embeds, cache)


@dataclass(frozen=True)
class Inputs:
    """What a caller gives, in tensors of a framework.

    Attributes:
        ids, mask: (B, T).
        embeds: (B, T, E).
        cache: keys and values of the first tokens.
        virtual: places in front of the ids that embeddings or the cache fill, and the mask counts.
    """

    backend: Backend
    model: Model
    ids: Tensor | None
    mask: Tensor | None = None
    embeds: Tensor | None = None
    cache: Cache | None = None
    virtual: int = 0

    @classmethod
    def of(
        cls,
        backend: Backend,
        model: Model,
        ids: TensorLike | None,
        mask: TensorLike | None,
        embeds: TensorLike | None = None,
        cache: Cache | None = None,
    ) -> "Inputs":
        """Take over arrays, lists or tensors.

        Raises:
            ArgumentError: if there is nothing to continue.
        """
        if ids is None and embeds is None:
            raise ArgumentError("generate() needs input_ids, (batch, length) token ids.")

        def tensor(given: TensorLike | None) -> Tensor | None:
            return None if given is None else backend.from_numpy(given, model)

        return cls(backend, model, tensor(ids), tensor(mask), tensor(embeds), cache)

    @property
    def length(self) -> int | None:
        """Tokens of the prompt, padding included; None where a graph leaves them open."""
        length = self.given.shape[1]
        if length is None or self.embeds is not None:
            return length
        if not hasattr(length, "__index__"):
            raise ArgumentError(
                f"generate() needs to know the length of its prompts; found {length}. A graph may "
                "leave the batch open, with prompts padded on the left to one length."
            )
        return int(length) + self.virtual

    @property
    def given(self) -> Tensor:
        """The ids, or the embeddings in their place."""
        given = self.ids if self.embeds is None else self.embeds
        assert given is not None  # `of` has made sure
        return given

    @property
    def is_concrete(self) -> bool:
        """Whether the values are known, that is, nobody is tracing."""
        return self.backend.concrete(self.given) is not None

    def check(self, options: GenerationConfig) -> None:
        """Refuse what does not fit the model; what is going to be cut off may be too long."""
        config = self.model.config
        most = None if options.truncation is None else config.n_positions
        mask = self.mask
        if mask is not None and self.embeds is None:
            mask = mask[:, self.virtual :]
        check_prompt(config, self.ids, mask, self.backend.concrete, embeds=self.embeds, cut_to=most)

    def repeated(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Return ids and mask with every sequence `count` times, copies side by side."""
        if count == 1:
            return self.given, self.mask
        mask = self.mask
        if mask is not None:
            mask = _repeated(mask, count, self.backend, self.model)
        return _repeated(self.given, count, self.backend, self.model), mask

    def prompt(self, options: GenerationConfig, plan: DecodePlan) -> Prompt:
        """Return the prompt in NumPy.

        Raises:
            InputError: for padding on the right beside embeddings or a cache.
        """
        if self.embeds is not None:
            return self._embedded()
        given = self.backend.to_numpy(self.given).astype(np.int64)
        if self.cache is not None and self.virtual:
            mask = self._mask(len(given), given.shape[1] + self.virtual)
            _check_ends(mask, "learnt tokens")
            return Prompt(given, given, mask, cache=self.cache)
        if self.cache is not None:
            cache = self._continued(self.cache, *given.shape)
            return Prompt(given, given, self._mask(*given.shape), cache=cache)
        prompt = Prompt(given, *to_left_padding(given, self._mask(*given.shape)))
        if options.truncation != "left":
            return prompt
        most = max(self.model.config.n_positions - plan.max_new_tokens, 1)  # padding goes first
        return replace(prompt, ids=prompt.ids[:, -most:], mask=prompt.mask[:, -most:])

    def _embedded(self) -> Prompt:
        batch, length = (int(size) for size in self.given.shape[:2])
        nothing = np.empty((batch, 0), np.int64)
        given = nothing if self.ids is None else self.backend.to_numpy(self.ids).astype(np.int64)
        mask = self._mask(batch, length)
        _check_ends(mask, "inputs_embeds")
        return Prompt(given, given if self.virtual else nothing, mask, embeds=self.embeds)

    def _continued(self, cache: Cache, batch: int, length: int) -> Cache:
        """Return a cache for all sequences, without the last token, which is run for its logits."""
        _check_ends(self._mask(batch, length), "past_key_values")
        count = int(cache[0][0].shape[0])
        if count not in (1, batch):
            raise InputError(
                f"past_key_values has {count} sequences and input_ids {batch}: they must be as "
                "many, or one sequence that all continue."
            )
        return (cache.expand(batch) if count < batch else cache).crop(length - 1)

    def _mask(self, batch: int, length: int) -> Mask:
        if self.mask is None:
            return np.ones((batch, length), np.int64)
        return np.asarray(self.backend.to_numpy(self.mask) != 0, np.int64)


def _repeated(tensor: Tensor, count: int, backend: Backend, model: Model) -> Tensor:
    """Return a tensor of the framework with every sequence `count` times, copies side by side."""
    return backend.from_numpy(np.repeat(backend.to_numpy(tensor), count, axis=0), model)


def to_left_padding(ids: Ids, mask: Mask) -> tuple[Ids, Mask]:
    """Move what is not attended, (B, T), to the left: every sequence ends with its last token.

    The order of the attended tokens stays, and so do the positions that follow from the mask.
    """
    order = np.argsort(mask != 0, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(mask, order, axis=1)


def _check_ends(mask: Mask, name: str) -> None:
    wrong = np.flatnonzero(mask[:, -1] == 0)
    if len(wrong):
        raise InputError(
            f"With {name} every sequence must end with a token; sequence {wrong[0]} ends with "
            "padding. Pad on the left."
        )
