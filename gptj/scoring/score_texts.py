"""The whole of scoring: from texts to `Score`, for every backend."""

from collections.abc import Iterable, Sequence

import numpy as np

from gptj.contract.backend import Backend
from gptj.contract.model import Model
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.scoring.options import Texts
from gptj.scoring.perplexity import Score
from gptj.scoring.score_requests import Encoder, ScoreRequest
from gptj.scoring.text_inputs import Text, as_choices, as_texts
from gptj.scoring.token_log_probs import Greedy, LogProbs, score_windows
from gptj.scoring.windows import windows
from gptj.spec.config import GPTJConfig
from gptj.spec.types import Tensor
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import find_tokenizer


def score(
    backend: Backend,
    model: Model,
    texts: Text | Texts | Tensor,
    *,
    continuations: Texts | Sequence[Texts] | None = None,
    tokenizer: GPTJTokenizer | None = None,
    batch_size: int = 8,
    stride: int | None = None,
    bos: bool = False,
) -> Score | list[Score] | list[list[Score]]:
    """Return how likely a model finds texts, or continuations of them.

    Args:
        backend: an object that fulfils ``gptj.backends.base.Backend``.
        model: its model, with a language-model head.
        texts, continuations, tokenizer, batch_size, stride, bos: as in ``model.score``.
    """
    check_score_options(model, batch_size, stride)
    tokenizer = tokenizer or find_tokenizer(model.source_folder)
    encoder = Encoder(tokenizer, model.config.vocab_size, _start(model.config, bos))
    given, alone = as_texts(texts)
    if continuations is None:
        requests = [encoder.whole(text, index) for index, text in enumerate(given)]
        found = score_requests(backend, model, requests, tokenizer, batch_size, stride)
        return found[0] if alone else found
    choices = as_choices(continuations, len(given))
    requests = [
        encoder.continuation(text, added, index)
        for index, text in enumerate(given)
        for added in choices[index]
    ]
    rest = iter(score_requests(backend, model, requests, tokenizer, batch_size, stride))
    lists = [[next(rest) for _ in added] for added in choices]
    return lists[0] if alone else lists


def check_score_options(model: Model, batch_size: int, stride: int | None) -> None:
    """Refuse what cannot be done, before anything is encoded.

    Raises:
        UnsupportedFeature: for a model without a language-model head.
        ArgumentError: for a batch size or a stride that is out of range.
    """
    if model.head != "causal_lm":
        raise UnsupportedFeature(
            f"score() needs a language-model head; this model's head is {model.head!r}."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"batch_size must be 1 or more; found {batch_size!r}.")
    longest = model.config.n_positions
    if stride is not None and (not isinstance(stride, int) or not 1 <= stride <= longest):
        raise ArgumentError(
            f"stride must be None or 1 to n_positions = {longest}; found {stride!r}."
        )


def score_requests(
    backend: Backend,
    model: Model,
    requests: Sequence[ScoreRequest],
    tokenizer: GPTJTokenizer,
    batch_size: int,
    stride: int | None,
) -> list[Score]:
    """Return a score for every request."""
    cut = windows(requests, model.config.n_positions, stride)
    slices: list[list[tuple[LogProbs, Greedy]]] = [[] for _ in requests]
    for window, found in zip(cut, score_windows(backend, model, cut, batch_size), strict=True):
        slices[window.request].append(found)
    return [
        _result(request, found, tokenizer) for request, found in zip(requests, slices, strict=True)
    ]


def _result(
    request: ScoreRequest, slices: Iterable[tuple[LogProbs, Greedy]], tokenizer: GPTJTokenizer
) -> Score:
    """Put together what the windows of a request have found."""
    numbers, greedy = zip(*slices, strict=True)
    ids = request.ids[request.first :]
    return Score(
        text=request.text,
        token_ids=ids,
        tokens=tuple(tokenizer.convert_ids_to_tokens(list(ids))),
        logprobs=tuple(np.concatenate(numbers).tolist()),
        is_greedy=bool(np.concatenate(greedy).all()),
        byte_count=request.byte_count,
    )


def _start(config: GPTJConfig, bos: bool) -> list[int]:
    """Return the tokens that are put before every text."""
    if not bos:
        return []
    if config.bos_token_id is None:
        raise ArgumentError(
            "bos=True needs a token to put before the text, but the configuration's bos_token_id "
            "is None. Set model.config.bos_token_id."
        )
    return [config.bos_token_id]
