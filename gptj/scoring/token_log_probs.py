"""Log-probabilities of tokens, in NumPy around a backend's forward; never all logits at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.contract.cache import Cache
from gptj.contract.model import Model
from gptj.scoring.windows import ForwardPass, ScoreWindow, batches, padded_length, passes
from gptj.spec.checks import already_checked
from gptj.system.progress import progress_bar

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
LogProbs = npt.NDArray[np.float64]
Greedy = npt.NDArray[np.bool_]


def score_windows(
    backend: Backend, model: Model, windows: Sequence[ScoreWindow], batch_size: int
) -> list[tuple[LogProbs, Greedy]]:
    """Return for every window its scored tokens' log-probabilities and whether each was likeliest.

    Args:
        backend: an object that fulfils ``gptj.backends.base.Backend``.
        model: its model, with a language-model head.
        windows: of tokens that the model knows, not longer than its context.
        batch_size: how many windows are computed at once.
    """
    found = dict(each_window(backend, model, windows, batch_size))
    return [found[index] for index in range(len(windows))]


def each_window(
    backend: Backend, model: Model, windows: Sequence[ScoreWindow], batch_size: int
) -> Iterator[tuple[int, tuple[LogProbs, Greedy]]]:
    """Yield what `score_windows` returns, each with the index of its window, once it is known."""
    total = sum(len(window.ids) for window in windows)
    with progress_bar(total, "token", "Scoring", delay=2) as bar:
        for batch in batches(windows, batch_size):
            chosen = [windows[index] for index in batch]
            yield from zip(batch, _score_batch(backend, model, chosen), strict=True)
            bar.update(sum(len(window.ids) for window in chosen))


def _score_batch(
    backend: Backend, model: Model, windows: Sequence[ScoreWindow]
) -> list[tuple[LogProbs, Greedy]]:
    """Run the windows through the model's cache, pass by pass."""
    config, batch = model.config, len(windows)
    width = padded_length(max(len(window.ids) for window in windows) - 1, config.n_positions)
    scored = min(padded_length(max(window.scored for window in windows), width), width)
    ids, mask, targets = _left_padded(windows, width)
    cache = backend.init_cache(model, batch, width)
    slices: list[list[tuple[LogProbs, Greedy]]] = [[] for _ in windows]
    for now in passes(width, scored, batch, config.vocab_size):
        logits, cache = _forward(backend, model, ids[:, now.start : now.stop], mask, cache, now)
        for number, window in enumerate(windows):
            first = max(now.stop - now.keep, width - window.scored)
            if first < now.stop:
                kept = logits[number, first - now.stop :]
                slices[number].append(log_probs(kept, targets[number, first : now.stop]))
    return [_joined(one) for one in slices]


def _forward(
    backend: Backend, model: Model, ids: Ids, mask: Ids, cache: Cache, now: ForwardPass
) -> tuple[Logits, Any]:
    """Return the logits of the last positions, (B, keep, V), and the cache after this pass."""
    with already_checked():  # every id was checked when the text was encoded
        output = backend.forward(
            model,
            input_ids=backend.from_numpy(ids, model),
            attention_mask=backend.from_numpy(mask, model),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=now.keep,
        )
    return backend.to_numpy(output.logits), output.past_key_values


def log_probs(logits: Logits, targets: Ids) -> tuple[LogProbs, Greedy]:
    """Return log-probabilities of targets (T,) under logits (T, V), and which are the likeliest.

    Sums are made in float64; of equal logits the one with the lower id counts as the likeliest, as
    in decoding.
    """
    top = logits.max(axis=1)
    sums = np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)
    chosen = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    found = (chosen - top).astype(np.float64) - np.log(sums)
    return found, logits.argmax(axis=1) == targets


def _left_padded(windows: Sequence[ScoreWindow], width: int) -> tuple[Ids, Ids, Ids]:
    """Return what the windows read, their mask and what comes after each token, all (B, width).

    Padding is on the left, so that all windows are scored at the end.
    """
    ids, mask, targets = np.zeros((3, len(windows), width), np.int64)
    for number, window in enumerate(windows):
        place = width - len(window.ids) + 1
        ids[number, place:] = window.ids[:-1]
        mask[number, place:] = 1
        targets[number, place:] = window.ids[1:]
    return ids, mask, targets


def _joined(slices: Sequence[tuple[LogProbs, Greedy]]) -> tuple[LogProbs, Greedy]:
    numbers, greedy = zip(*slices, strict=True)
    return np.concatenate(numbers), np.concatenate(greedy)
