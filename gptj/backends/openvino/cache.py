"""The cache: keys and values inside an infer request of OpenVINO, or in NumPy once it branches.

A call that goes straight on appends to the state of its request, and nothing is copied; sequences
are picked by ``beam_idx`` there. Before such a call overwrites what another cache still needs, that
cache is copied out: whatever a caller keeps stays as it was.
"""

from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, TypeAlias
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import openvino as ov

from gptj.model.array_cache import Array, LayerCache
from gptj.spec.cache_checks import check_copies, kept_length, known_rows
from gptj.spec.config import GPTJConfig

Rows: TypeAlias = npt.NDArray[np.int32]


class Session:
    """An infer request, whose state is what its last call has seen."""

    def __init__(self, model: ov.CompiledModel) -> None:
        """Begin with an empty state."""
        self.model, self.request = model, model.create_infer_request()
        self.length = 0
        self.lock = RLock()  # for threads that go on from one cache
        self.caches: WeakSet[OpenVINOCache] = WeakSet()  # those whose content is in the state

    def read(self, name: str) -> Array:
        """Return a state by name, (B, H, S, D)."""
        return self._states()[name].state.data

    def load(self, layers: list[LayerCache]) -> None:
        """Set all states to keys and values."""
        states = self._states()
        for layer, pair in enumerate(layers):
            for name, array in zip(state_names(layer), pair, strict=True):
                states[name].state = ov.Tensor(np.ascontiguousarray(array, np.float32))
        self.length = int(layers[0][0].shape[2])

    def infer(self, inputs: dict[str, Array], rows: Rows) -> Array:
        """Run a call on the rows of the state, and return its output."""
        given = {**inputs, "beam_idx": rows}
        try:
            found: Array = self.request.infer(given, share_inputs=True)[0]
            self.length += inputs["input_ids"].shape[1]
        except BaseException:  # Ctrl-C may come before the call or after it: the state knows
            self.length = int(self.read(state_names(0)[0]).shape[2])
            raise
        return found

    def _states(self) -> dict[str, Any]:
        return {state.name: state for state in self.request.query_state()}


class OpenVINOCache:
    """Keys and values of all layers for the first `length` tokens of every sequence.

    Attributes:
        batch: sequences.
        capacity: tokens that it may hold, None for any number.
        attended: the mask (B, S) of the call that filled it, or None.
    """

    def __init__(
        self,
        config: GPTJConfig,
        batch: int,
        length: int = 0,
        capacity: int | None = None,
        attended: Array | None = None,
    ) -> None:
        """Make an empty cache; `kept_in` and `of` fill it."""
        self.config, self.batch, self.length = config, batch, length
        self.capacity, self.attended = capacity, attended
        self.session: Session | None = None
        self.rows: Rows | None = None  # of the session's state, None for all
        self.layers: list[LayerCache] | None = None

    @property
    def preallocated(self) -> bool:
        """Whether it was made for a number of tokens."""
        return self.capacity is not None

    def __len__(self) -> int:
        """Return the number of layers."""
        return self.config.n_layer

    def __getitem__(self, layer: int) -> LayerCache:
        """Return one layer's filled keys and values, (B, H, S, D)."""
        if self.layers is not None:
            return self.layers[layer]
        if self.session is None:
            shape = (self.batch, self.config.n_head, 0, self.config.head_dim)
            return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        layer = range(len(self))[layer]
        key, value = (self._cut(self.session.read(name)) for name in state_names(layer))
        return key, value

    def kept_in(self, session: Session) -> "OpenVINOCache":
        """Return this cache, whose content is the beginning of a session's state."""
        self.session, self.rows = session, None
        session.caches.add(self)
        return self

    def with_capacity(self, capacity: int) -> "OpenVINOCache":
        """Return a copy that may hold `capacity` tokens."""
        return self._copy(capacity=capacity)

    def frozen(self) -> "OpenVINOCache":
        """Return the same as a cache that may hold any number."""
        return self._copy(capacity=None)

    def gather(self, rows: npt.ArrayLike) -> "OpenVINOCache":
        """Return a cache of the given sequences, in that order."""
        index = known_rows(rows, self.batch, np.asarray).astype(np.int32)
        attended = None if self.attended is None else self.attended[index]
        found = self._copy(batch=len(index), attended=attended)
        if self.layers is not None:
            found.layers = [(key[index], value[index]) for key, value in self.layers]
        elif self.session is not None:
            found.rows = index if self.rows is None else self.rows[index]
        return found

    def expand(self, count: int) -> "OpenVINOCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        return self.gather(np.repeat(np.arange(self.batch), count))

    def crop(self, length: int) -> "OpenVINOCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, np.asarray)
        found = self._copy(length=min(length, self.length))
        if found.layers is not None:
            found.layers = [(k[:, :, :length], v[:, :, :length]) for k, v in found.layers]
        return found

    def held(self) -> AbstractContextManager[Any]:
        """Return what keeps other threads from this cache's session: `opened` and a call in it."""
        return nullcontext() if self.session is None else self.session.lock

    def opened(self, model: ov.CompiledModel) -> tuple[Session, Rows]:
        """Return a session that goes on from here, and the rows of its state that do.

        It is this cache's own if that has seen nothing since.
        """
        session = self.session
        is_last = session is not None and session.length == self.length
        if session is not None and is_last and session.model is model:
            if self.rows is None:
                return session, np.arange(self.batch, dtype=np.int32)
            for other in [cache for cache in session.caches if cache is not self]:
                other.store()
            return session, self.rows
        session = Session(model)
        if self.length:
            session.load([self[layer] for layer in range(len(self))])
        return session, np.arange(self.batch, dtype=np.int32)

    def after(self, session: Session) -> None:
        """Note that a call from here, if it has run, has put the state into the order of `rows`."""
        if session is self.session and session.length != self.length:
            self.rows = None

    def store(self) -> None:
        """Copy the content out of the session."""
        self.layers = [self[layer] for layer in range(len(self))]
        if self.session is not None:
            self.session.caches.discard(self)
        self.session = self.rows = None

    def _cut(self, state: Array) -> Array:
        """Return a copy of this cache's part of a state."""
        part = state[:, :, : self.length]
        return part.copy() if self.rows is None else part[self.rows]

    def _copy(self, **changes: Any) -> "OpenVINOCache":
        names = ("batch", "length", "capacity", "attended")
        found = OpenVINOCache(self.config, **{n: getattr(self, n) for n in names} | changes)
        found.layers = self.layers
        if self.session is not None:
            found.kept_in(self.session).rows = self.rows
        return found


def state_names(layer: int) -> tuple[str, str]:
    """Return the names of a layer's states: keys and values."""
    return f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"
