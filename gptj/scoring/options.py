"""The types of ``model.score``: which texts give which result, and its keyword arguments."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, Unpack, overload

from gptj.scoring.perplexity import Score
from gptj.scoring.text_inputs import Text
from gptj.spec.types import Tensor
from gptj.tokenizer import GPTJTokenizer

Texts: TypeAlias = list[str] | list[list[int]] | list[Text] | tuple[Text, ...]
"""Several texts."""


class ScoreOptions(TypedDict, total=False):
    """What ``model.score`` takes besides texts and continuations."""

    tokenizer: GPTJTokenizer | None
    batch_size: int
    stride: int | None
    bos: bool


class ScoreMethod(Protocol):
    """The method as it is called on a model."""

    @overload
    def __call__(
        self, texts: Text, *, continuations: None = None, **options: Unpack[ScoreOptions]
    ) -> Score: ...
    @overload
    def __call__(
        self, texts: Text, *, continuations: Texts, **options: Unpack[ScoreOptions]
    ) -> list[Score]: ...
    @overload
    def __call__(
        self, texts: Texts, *, continuations: None = None, **options: Unpack[ScoreOptions]
    ) -> list[Score]: ...
    @overload
    def __call__(
        self,
        texts: Texts,
        *,
        continuations: Texts | Sequence[Texts],
        **options: Unpack[ScoreOptions],
    ) -> list[list[Score]]: ...
    @overload
    def __call__(
        self, texts: Tensor, *, continuations: object = None, **options: Unpack[ScoreOptions]
    ) -> Any: ...
