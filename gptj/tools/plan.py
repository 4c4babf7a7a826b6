"""Predict the memory that a model will need, and whether it is available.

Weights, gradients, optimizer state and cache follow from the parameter table and the dtypes.
Activations are counted as the arrays that a backend holds at its peak, per token: multiples of the
width, of the MLP's inner width, of the scores and of the logits. The multiples were measured;
``benchmarks/planning.py`` measures them again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Unpack

from gptj import hub
from gptj.backends import FRAMEWORKS, resolve_name
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.generation.finished_sequences import most_room
from gptj.generation.length_buckets import bucket_length
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.spec.byte_sizes import parse_size, readable_size
from gptj.spec.config import dtype_name
from gptj.spec.config_fields import ConfigFields
from gptj.spec.params import parameter_bytes
from gptj.spec.quantization import check_choice, check_trainable, description_of
from gptj.spec.types import DType
from gptj.system.memory import BYTES, free_bytes


@dataclass(frozen=True)
class Held:
    """The number of arrays of each kind that a backend holds at its peak, per token.

    Training keeps them for every layer, except for the logits; generation keeps them for one layer.

    Attributes:
        width: of n_embd numbers.
        inner: of n_inner numbers.
        scores: of n_head x length numbers in float32.
        logits: of vocab_size numbers in float32; only while training.
        runtime: bytes for threads, compiled code and the allocator's reserve.
    """

    width: float
    inner: float
    scores: float
    logits: float
    runtime: int


FORWARD: Final = {
    "torch": Held(width=12, inner=3, scores=0, logits=0, runtime=50 * 10**6),
    "tf": Held(width=12, inner=3, scores=11, logits=0, runtime=70 * 10**6),
    "flax": Held(width=12, inner=3, scores=2, logits=0, runtime=150 * 10**6),
}
TRAINING: Final = {
    "torch": Held(width=4, inner=2, scores=1, logits=2, runtime=150 * 10**6),
    "tf": Held(width=11, inner=4, scores=2.5, logits=3, runtime=350 * 10**6),
    "flax": Held(width=12, inner=4, scores=3, logits=3, runtime=300 * 10**6),
}


CACHE_ON_CPU: Final = {"flax": "float32"}
"""Backend -> dtype of keys and values while generating on a CPU, unless the model's."""

GROWING: Final = ("tf", "flax")
"""Backends whose cache grows by copies while generating."""


@dataclass(frozen=True)
class Plan:
    """The bytes that a model will need at its peak; `str` returns them as a table.

    Attributes:
        weights, gradients, optimizer, cache, activations, runtime: the addends. The optimizer is
            Adam with two moments in the dtype of the weights.
        available: the bytes of memory that are free.
    """

    what: str
    weights: int
    gradients: int
    optimizer: int
    cache: int
    activations: int
    runtime: int
    available: int

    @property
    def total(self) -> int:
        """The sum of the addends."""
        growing = (self.weights, self.gradients, self.optimizer, self.cache, self.activations)
        return sum(growing) + self.runtime

    @property
    def fits(self) -> bool:
        """Whether the total is available."""
        return self.total <= self.available

    def to_dict(self) -> dict[str, Any]:
        """Return the whole result, ready for JSON."""
        return {**asdict(self), "total": self.total, "fits": self.fits}

    def __str__(self) -> str:
        numbers = {**asdict(self), "total": self.total}
        names = ("weights", "gradients", "optimizer", "cache", "activations", "runtime", "total")
        rows = [f"{name:12}{readable_size(numbers[name]):>12}" for name in names if numbers[name]]
        available = f"{'available':12}{readable_size(self.available):>12}"
        verdict = "it fits" if self.fits else self._advice()
        return "\n".join([self.what, *rows, available, verdict])

    def _advice(self) -> str:
        what = {
            "weights": "take dtype bfloat16, or spread it over several devices",
            "optimizer": "train an adapter, or spread the optimizer over several devices",
            "cache": "take a smaller batch, or a shorter length",
            "activations": "take a smaller batch, or a shorter length",
        }
        largest = max(what, key=asdict(self).__getitem__)
        return f"it does not fit, by {readable_size(self.total - self.available)}; {what[largest]}"


def plan(
    name: str | Path = "6B",
    *,
    backend: str | None = None,
    dtype: DType = "auto",
    head: str = "causal_lm",
    quantize: str | None = None,
    batch: int = 1,
    length: int | None = None,
    train: bool = False,
    memory: int | str | None = None,
    **where: Unpack[HubOptions],
) -> Plan:
    """Predict the memory that a model needs, without loading it or its framework.

    Args:
        name: a preset, a folder or a hub id; only its configuration is read.
        backend: ``"torch"``, ``"tf"``, ``"flax"`` or an alias; None means ``"torch"``.
        dtype: of parameters and computation; ``"auto"`` takes the configuration's, else float32.
        head: a name of ``gptj.spec.heads.HEADS``.
        quantize: ``"int8"``, ``"int4"`` or ``"none"``; None means as configured.
        batch, length: of the tokens, including new ones; by default the longest context.
        train: with gradients and Adam, all tokens together; else generating with a cache.
        memory: that of a GPU, in bytes or as ``"80GB"``; None means the free memory of this
            machine, for a CPU.
        where: `revision`, `cache_dir` and the like, as in ``gptj.load``.

    Returns:
        A `Plan`.

    Raises:
        ArgumentError: for an unknown name or dtype, or impossible numbers.
        UnsupportedFeature: for training quantized weights.
    """
    system = resolve_name(backend or "torch")
    if system not in TRAINING:
        raise UnsupportedFeature(
            f"The needs of the backend {system!r} were not measured; known are "
            f"{choices(FRAMEWORKS)}."
        )
    config = _config(name, quantize, **where)
    length = config.n_positions if length is None else length
    for what, number, most in (("batch", batch, 2**31), ("length", length, config.n_positions)):
        if not isinstance(number, int) or not 1 <= number <= most:
            raise ArgumentError(f"{what} {number!r} must be an integer from 1 to {most}.")
    wanted = dtype_name(dtype)
    wanted = (config.dtype or "float32") if wanted in (None, "auto") else wanted
    if wanted not in BYTES:
        raise ArgumentError(f"There is no dtype {wanted!r} here; accepted are {choices(BYTES)}.")
    if train:
        check_trainable(config, "Training")
    cached = CACHE_ON_CPU.get(system, wanted) if memory is None else wanted
    weights, stored = parameter_bytes(config, head, BYTES[wanted]), config.quantization
    held = (TRAINING if train else FORWARD)[system]
    return Plan(
        what=f"{name} in {system}, {wanted}{f' over {stored}' if stored else ''}, "
        f"{'training' if train else 'generating'}, batch {batch}, length {length}",
        weights=weights,
        gradients=weights if train else 0,
        optimizer=2 * weights if train else 0,
        cache=0 if train else _cache(config, system, batch, length, BYTES[cached]),
        activations=_activations(config, held, batch, length, BYTES[wanted], train),
        runtime=held.runtime,
        available=free_bytes() if memory is None else parse_size(memory, "memory"),
    )


def _config(name: str | Path, quantize: str | None, **where: Unpack[HubOptions]) -> GPTJConfig:
    """Return the configuration of a model; that of the 6B is known without files."""
    check_choice(quantize)
    changes: ConfigFields = {}
    if quantize is not None:
        changes["quantization_config"] = description_of(quantize)
    if str(name).partition("@")[0].lower() in hub.PRESETS:
        return GPTJConfig(**changes)
    return GPTJConfig.from_pretrained(name, **where, **changes)


def _cache(config: GPTJConfig, system: str, batch: int, length: int, itemsize: int) -> int:
    """Return the bytes of keys and values of every layer."""
    room = bucket_length(length, config.n_positions)
    places = batch * (most_room(room) if system in GROWING else room)
    return 2 * config.n_layer * places * config.n_embd * itemsize


def _activations(
    config: GPTJConfig, held: Held, batch: int, length: int, itemsize: int, train: bool
) -> int:
    numbers = held.width * config.n_embd + held.inner * config.inner_dim
    per_layer = numbers * itemsize + held.scores * config.n_head * length * 4
    logits = held.logits * config.vocab_size * 4
    return int(batch * length * (per_layer * (config.n_layer if train else 1) + logits))
