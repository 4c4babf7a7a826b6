"""What somebody computed: arrays by name of module, and how others are compared with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from gptj.diagnosis.computation import Computation, Inputs, Ints
from gptj.spec.reference.ops import Array

LOGITS: Final = "lm_head"
PROBS: Final = "attn.probs"
BY_HEADS: Final = (PROBS, "attn.key", "attn.value")
"""Outputs (B, H, T, ...): probabilities, and what a cache holds."""

SAMPLE: Final = 20_000
"""How many numbers are kept of each computation, to see which mistakes look alike."""


def plain(logits: Array) -> Array:
    """Compare logits as they are."""
    return logits


@dataclass(frozen=True)
class Evidence:
    """What somebody computed on `inputs`.

    Attributes:
        arrays: outputs of modules at all positions, (B, T, width); probabilities, keys and values
            are (B, H, T, S or D). Those of ``lm_head`` are what `view` makes of (B, T, V) logits.
        columns: the tokens whose logits are compared, all if None.
        view: from logits to what is compared, for example log-probabilities.
    """

    inputs: Inputs
    arrays: Mapping[str, Array]
    columns: Ints | None = None
    view: Callable[[Array], Array] = plain

    def start(self, length: int) -> "Evidence":
        """Return the first tokens of the first sequence: in GPT-J no later ones bear on them."""
        given = self.inputs
        cut = Inputs(
            given.ids[:1, :length],
            None if given.mask is None else given.mask[:1, ..., :length],
            None if given.positions is None else given.positions[:1, :length],
        )
        arrays = {name: _start(name, array, length) for name, array in self.arrays.items()}
        return replace(self, inputs=cut, arrays=arrays)

    def attended_only(self, name: str, array: Array) -> Array:
        """Drop what a module put out at padding."""
        rows = array.swapaxes(1, 2) if name.endswith(BY_HEADS) else array
        return rows[self.inputs.attended()]


def _start(name: str, array: Array, length: int) -> Array:
    if not name.endswith(BY_HEADS):
        return array[:1, :length]
    return array[:1, :, :length, : length if name.endswith(PROBS) else None]


@dataclass(frozen=True)
class Gap:
    """How far a computation is from the evidence.

    Attributes:
        squares: name of a module -> mean of the squared differences of its output.
        sample: some of the differences of every module, (N,); 0 where they are no numbers.
    """

    squares: dict[str, float] = field(default_factory=dict)
    sample: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, difference: Array, picked: Ints) -> None:
        """Note the differences of one module."""
        mean = float(np.mean(np.square(difference, dtype=np.float64)))
        self.squares[name] = mean if np.isfinite(mean) else float("inf")
        chosen = difference.reshape(-1)[picked] if np.isfinite(mean) else np.zeros(len(picked))
        self.sample[name] = chosen.astype(np.float32)


def picked(evidence: Evidence) -> dict[str, Ints]:
    """Return which numbers of every module are kept in samples, the same for everybody."""
    generator = np.random.Generator(np.random.PCG64(0))
    share = SAMPLE // max(1, len(evidence.arrays))
    found: dict[str, Ints] = {}
    for name, array in evidence.arrays.items():
        size = evidence.attended_only(name, array).size
        found[name] = np.sort(generator.choice(size, min(size, share), replace=False))
    return found


def measure(
    computations: Sequence[Computation], evidence: Evidence, chosen: Mapping[str, Ints]
) -> list[Gap]:
    """Return how far each computation is from the evidence, all of them one layer at a time.

    So each weight is read once for all computations, which may be lazy.

    Args:
        chosen: what of every module is kept as a sample, as `picked` returns it.
    """
    gaps = [Gap() for _ in computations]

    def note(gap: Gap) -> Callable[[str, Array], None]:
        def observe(name: str, output: Array) -> None:
            if name not in evidence.arrays:
                return
            expected = evidence.arrays[name]
            if output.shape != expected.shape:  # of a mistake in the shapes themselves
                output = np.full(expected.shape, np.nan)
            gap.add(name, evidence.attended_only(name, output - expected), chosen[name])

        return observe

    _run(computations, evidence, [note(gap) for gap in gaps])
    return gaps


def recorded(computation: Computation, evidence: Evidence) -> Evidence:
    """Return what a computation puts out where the evidence has something."""
    arrays: dict[str, Array] = {}

    def observe(name: str, output: Array) -> None:
        if name in evidence.arrays:
            arrays[name] = output

    _run([computation], evidence, [observe])
    return replace(evidence, arrays=arrays)


def _run(
    computations: Sequence[Computation],
    evidence: Evidence,
    observers: Sequence[Callable[[str, Array], None]],
) -> None:
    """Run computations in lockstep, and report the outputs of their modules."""
    with np.errstate(all="ignore"):  # a wrong computation may overflow
        states = [c.embed() for c in computations]
        for observe, x in zip(observers, states, strict=True):
            observe("transformer.wte", x)
        for layer in range(max(c.config.n_layer for c in computations)):
            for index, c in enumerate(computations):
                if layer < c.config.n_layer:
                    states[index] = c.step(layer, states[index], observers[index])
                    observers[index](f"transformer.h.{layer}", states[index])
        for index, c in enumerate(computations):
            last = c.final(states[index])
            observers[index]("transformer.ln_f", last)
            if LOGITS in evidence.arrays:
                logits = c.logits(last, evidence.columns)
                observers[index](LOGITS, evidence.view(logits))
