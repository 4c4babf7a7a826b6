"""Low-rank adapters: which layers have one, its weights by canonical name, and their first values.

LoRA (Hu et al., arXiv:2106.09685) freezes the weights of a linear layer and adds
``scale * dropout(x) A^T B^T``, where A is (r, in) and B is (out, r). The canonical name of such a
weight is PEFT's without the prefix ``base_model.model.``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from gptj.errors import QUOTED, ArgumentError, brief, choices, suggest
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.number_checks import is_plain_number, is_positive_int
from gptj.spec.params import LM_HEAD, keyed_generator, parameter_table
from gptj.spec.tensors import LazyTensor

Value = TypeVar("Value")

ALL_LINEAR: Final = "all-linear"
"""Stands for every linear layer of every block."""

LARGEST_ALPHA: Final = 2.0**127
"""What float32 holds, in which the update is scaled."""

NEW_HEADS: Final = ("score", "qa_outputs")
"""Heads that checkpoints of language models lack: they are trained whole by default."""


@dataclass(frozen=True)
class LoraConfig:
    """The configuration of an adapter.

    Attributes:
        rank: r, the rows of A and the columns of B.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: the probability of dropping each input of an adapter while training.
        targets: layers with an adapter, by the last part or parts of their names, such as
            ``"q_proj"`` or ``"h.0.mlp.fc_in"``; or ``("all-linear",)``.
        modules_to_save: modules of the head that are trained whole and saved with the adapter.
        use_rslora: scale by ``alpha / sqrt(rank)`` instead.
        rank_pattern, alpha_pattern: another rank or alpha for some layers, named as in `targets`.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    modules_to_save: tuple[str, ...] = ()
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Turn a single name into a tuple, and refuse impossible values."""
        for name in ("targets", "modules_to_save"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        for rank in (self.rank, *self.rank_pattern.values()):
            fits = is_positive_int(rank) and rank < 2**31
            _require(fits, "rank", rank, "a positive integer")
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            fits = is_plain_number(alpha) and 0 < alpha < LARGEST_ALPHA
            _require(fits, "alpha", alpha, "a positive number")
        fits = is_plain_number(self.dropout) and 0.0 <= self.dropout < 1.0
        _require(fits, "dropout", self.dropout, "a number from 0 to below 1")

    def scale(self, module: str) -> float:
        """Return the factor of a layer's update."""
        rank = self.rank_of(module)
        alpha = _pick(self.alpha_pattern, module, self.alpha)
        return float(alpha / rank**0.5 if self.use_rslora else alpha / rank)

    def rank_of(self, module: str) -> int:
        """Return the rank of a layer's update."""
        return int(_pick(self.rank_pattern, module, self.rank))


@dataclass(frozen=True)
class LoraLayer:
    """The adapter of one linear layer: its canonical name, sizes and scale."""

    module: str
    inputs: int
    outputs: int
    rank: int
    scale: float

    @property
    def down(self) -> str:
        """The canonical name of A, (r, in)."""
        return f"{self.module}.lora_A.weight"

    @property
    def up(self) -> str:
        """The canonical name of B, (out, r)."""
        return f"{self.module}.lora_B.weight"

    @property
    def weight(self) -> str:
        """The canonical name of the layer's own weight, (out, in)."""
        return f"{self.module}.weight"


def lora_layers(lora: LoraConfig, config: GPTJConfig, head: str) -> dict[str, LoraLayer]:
    """Return the adapted layers of a model by canonical name, in order of computation.

    Raises:
        ArgumentError: for a target or pattern that matches no layer, suggesting the nearest.
    """
    shapes = linear_shapes(config, head)
    for name in (*lora.targets, *lora.rank_pattern, *lora.alpha_pattern):
        _check_target(name, shapes)
    if not lora.targets:
        raise ArgumentError(f"targets is empty: name layers, of {choices(_last_names(shapes))}.")
    return {
        module: LoraLayer(module, inputs, outputs, lora.rank_of(module), lora.scale(module))
        for module, (outputs, inputs) in shapes.items()
        if any(_covers(target, module) for target in lora.targets)
    }


def linear_shapes(config: GPTJConfig, head: str) -> dict[str, tuple[int, int]]:
    """Return every linear layer that can have an adapter -> its (out, in).

    Those are the layers of the blocks and the language-model head; smaller heads are trained whole.
    """
    shapes = {
        name.removesuffix(".weight"): (p.ordinary.shape[0], p.ordinary.shape[1])
        for name, p in parameter_table(config, head).items()
        if p.kind == "linear_weight" and not name.startswith(NEW_HEADS)
    }
    if head == "causal_lm":  # the table has no weight for a tied head
        shapes[LM_HEAD.removesuffix(".weight")] = (config.vocab_size, config.n_embd)
    return shapes


def saved_parameters(lora: LoraConfig, config: GPTJConfig, head: str) -> dict[str, tuple[int, ...]]:
    """Return the parameters of the modules that are trained whole -> their shapes.

    Raises:
        ArgumentError: for a module that is not the head's own, or has an adapter too.
    """
    table = parameter_table(config, head)
    for module in lora.modules_to_save:
        accepted = [name for name in find_head(head).modules if f"{name}.weight" in table]
        if module not in accepted:
            raise ArgumentError(
                f"modules_to_save has {brief(module)}; the head {head!r} has "
                f"{choices(accepted) or 'no'}"
                " modules that can be trained whole beside adapters."
            )
        if any(_covers(target, module) for target in lora.targets):
            raise ArgumentError(f"{module!r} is in targets and in modules_to_save: choose one.")
    starts = tuple(f"{module}." for module in lora.modules_to_save)
    return {name: p.shape for name, p in table.items() if starts and name.startswith(starts)}


def adapter_shapes(lora: LoraConfig, config: GPTJConfig, head: str) -> dict[str, tuple[int, ...]]:
    """Return the canonical name of every tensor of an adapter -> its shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in lora_layers(lora, config, head).values():
        shapes[layer.down] = (layer.rank, layer.inputs)
        shapes[layer.up] = (layer.outputs, layer.rank)
    return shapes | saved_parameters(lora, config, head)


def new_adapter(
    lora: LoraConfig, config: GPTJConfig, head: str, seed: int = 0
) -> dict[str, LazyTensor]:
    """Draw A and B of a new adapter, float32, by canonical name.

    B is zero, so a new adapter does not change the model. A is uniform in +-1 / sqrt(in), which is
    Kaiming's initialisation as PEFT applies it. It depends only on (seed, canonical name), so it
    is the same on every backend.
    """
    tensors = {}
    for layer in lora_layers(lora, config, head).values():
        tensors[layer.down] = LazyTensor.of(_drawn(layer, seed))
        tensors[layer.up] = LazyTensor.of(np.zeros((layer.outputs, layer.rank), np.float32))
    return tensors


def modules_trained_whole(head: str) -> tuple[str, ...]:
    """Return the modules of a head that are trained whole by default."""
    return tuple(name for name in find_head(head).modules if name in NEW_HEADS)


def _drawn(layer: LoraLayer, seed: int) -> npt.NDArray[np.float32]:
    values = keyed_generator(seed, layer.down).random((layer.rank, layer.inputs), np.float32)
    return (2.0 * values - 1.0) * np.float32(layer.inputs**-0.5)


def _covers(target: str, module: str) -> bool:
    """Return whether a target matches a layer: its name, or the last parts of it."""
    if target == ALL_LINEAR:
        return module not in find_head("causal_lm").modules
    return module == target or module.endswith(f".{target}")


def _pick(pattern: Mapping[str, Value], module: str, default: Value) -> Value:
    """Return the value of the first name in a pattern that matches a layer."""
    return next((pattern[name] for name in pattern if _covers(name, module)), default)


def _check_target(name: str, modules: Mapping[str, Any]) -> None:
    if not any(_covers(str(name), module) for module in modules):
        last = _last_names(modules)
        known = [*last, ALL_LINEAR]
        raise ArgumentError(
            f"The model has no linear layer {brief(name)}.{suggest(str(name)[:QUOTED], known)} "
            f"Accepted are {choices(last)}, longer ends of their names such as "
            f"{next(iter(modules))!r}, and {ALL_LINEAR!r}."
        )


def _last_names(modules: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(module.rpartition(".")[2] for module in modules))


def _require(fits: bool, name: str, value: object, accepted: str) -> None:
    if not fits:
        raise ArgumentError(f"{name} must be {accepted}; found {brief(value)}.")
