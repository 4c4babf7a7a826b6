"""Every weight of every head: the table behind loaders, sharding plans and layouts.

The canonical name is the key of Hugging Face's PyTorch checkpoint. Weights of linear layers are
(out, in). Attention projections have no bias; the language-model head has one.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, find_head
from gptj.spec.quantization import (
    QUANTIZERS,
    SCALE,
    as_stored,
    is_quantized_module,
    stored_value,
)
from gptj.spec.quantizers import Quantizer

Kind = Literal[
    "embedding", "linear_weight", "linear_scale", "linear_bias", "norm_weight", "norm_bias"
]
Axis = Literal["vocab", "embed", "heads", "mlp", "labels"]

EMBEDDING: Final = "transformer.wte.weight"
LM_HEAD: Final = "lm_head.weight"


DIVIDED: Final = ("heads", "mlp", "vocab")
"""Axes that sharding splits over devices or processes; all others are replicated."""


@dataclass(frozen=True)
class Parameter:
    """One weight: canonical name, shape, kind, and one logical axis per dimension.

    Attributes:
        dtype: its dtype if that is fixed, as for quantized weights, whatever the model's.
        scaled: the ordinary weight that a quantized weight or its scales represent.
        quantizer: the one that it is stored with, if any.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    axes: tuple[Axis, ...]
    dtype: str | None = None
    scaled: "Parameter | None" = None
    quantizer: Quantizer | None = None

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def ordinary(self) -> "Parameter":
        """The weight that it represents in a quantized model, else itself."""
        return self.scaled or self

    def nbytes(self, itemsize: int) -> int:
        """Return its size in bytes; `itemsize` is that of the model's dtype, if not fixed here."""
        return self.size * (np.dtype(self.dtype).itemsize if self.dtype else itemsize)


def parameter_table(config: GPTJConfig, head: str = "causal_lm") -> dict[str, Parameter]:
    """Return the parameters of a model by canonical name, in order of computation.

    With tied embeddings there is no ``lm_head.weight``: the head reads ``transformer.wte.weight``.
    The base model's names lack the prefix ``transformer.``. In a quantized model the scales of a
    weight follow it, see ``gptj.spec.quantization``.

    Raises:
        ArgumentError: for an unknown head.
        ConfigError: for a number of labels that the head cannot have.
    """
    found = find_head(head)
    found.check_config(config.num_labels)
    parameters = [*_base(config, found.prefix), *_HEAD_PARAMETERS[head](config)]
    if config.quantization is not None:
        quantizer = QUANTIZERS[config.quantization]
        parameters = [stored for p in parameters for stored in _quantized(p, quantizer)]
    return {p.name: p for p in parameters}


def count_parameters(config: GPTJConfig, head: str = "causal_lm") -> int:
    """Return the number of a model's parameters, the same whether quantized or not."""
    table = parameter_table(config, head).values()
    return sum(p.ordinary.size for p in table if p.kind != "linear_scale")


def parameter_bytes(config: GPTJConfig, head: str, itemsize: int) -> int:
    """Return the bytes of a model; `itemsize` is that of parameters without a fixed dtype."""
    return sum(p.nbytes(itemsize) for p in parameter_table(config, head).values())


def kind_of(name: str) -> Kind:
    """Return the kind of a parameter from its canonical name."""
    owner, _, part = name.rpartition(".")
    module = owner.rpartition(".")[2]
    if module == "wte":
        return "embedding"
    if module.startswith("ln_"):
        return "norm_bias" if part == "bias" else "norm_weight"
    if part == f"weight{SCALE}":
        return "linear_scale"
    return "linear_bias" if part == "bias" else "linear_weight"


def initial_value(parameter: Parameter, config: GPTJConfig, seed: int = 0) -> npt.NDArray[Any]:
    """Draw a new parameter: N(0, initializer_range) for matrices, 1 and 0 for the rest.

    The draw depends only on (seed, canonical name), so it is the same on every backend, in any
    order of creation, and for the base model inside any head.

    Returns:
        float32 array of the parameter's shape; a quantized weight has its stored dtype.
    """
    if parameter.scaled is not None:
        return stored_value(parameter, initial_value(parameter.scaled, config, seed))
    if parameter.kind == "norm_weight":
        return np.ones(parameter.shape, np.float32)
    if parameter.kind in ("norm_bias", "linear_bias"):
        return np.zeros(parameter.shape, np.float32)
    values = keyed_generator(seed, parameter.name).standard_normal(parameter.shape, np.float32)
    return values * np.float32(config.initializer_range)


def keyed_generator(seed: int, name: str) -> np.random.Generator:
    """Return the generator of a tensor's initial values, keyed by seed and canonical name.

    A base model's tensor uses its name inside a head, so both draw the same values.
    """
    is_base = name.startswith(("wte.", "h.", "ln_f."))
    key = f"{seed}:{BASE_PREFIX + name if is_base else name}"
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _base(config: GPTJConfig, prefix: str) -> Iterator[Parameter]:
    width, vocab = config.n_embd, config.vocab_size
    yield Parameter(f"{prefix}wte.weight", (vocab, width), "embedding", ("vocab", "embed"))
    for layer in range(config.n_layer):
        yield from _block(config, f"{prefix}h.{layer}.")
    yield from _norm(f"{prefix}ln_f", width)


def _block(config: GPTJConfig, prefix: str) -> Iterator[Parameter]:
    width, inner = config.n_embd, config.inner_dim
    yield from _norm(f"{prefix}ln_1", width)
    for name in ("q_proj", "k_proj", "v_proj"):
        yield _weight(f"{prefix}attn.{name}", (width, width), ("heads", "embed"))
    yield _weight(f"{prefix}attn.out_proj", (width, width), ("embed", "heads"))
    yield _weight(f"{prefix}mlp.fc_in", (inner, width), ("mlp", "embed"))
    yield _bias(f"{prefix}mlp.fc_in", inner, "mlp")
    yield _weight(f"{prefix}mlp.fc_out", (width, inner), ("embed", "mlp"))
    yield _bias(f"{prefix}mlp.fc_out", width, "embed")


def _quantized(parameter: Parameter, quantizer: Quantizer) -> tuple[Parameter, ...]:
    """Return the stored tensors of a parameter in a quantized model."""
    is_weight = parameter.kind == "linear_weight" and is_quantized_module(parameter.name)
    return as_stored(parameter, quantizer) if is_weight else (parameter,)


def _norm(name: str, width: int) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (width,), "norm_weight", ("embed",))
    yield Parameter(f"{name}.bias", (width,), "norm_bias", ("embed",))


def _weight(name: str, shape: tuple[int, int], axes: tuple[Axis, Axis]) -> Parameter:
    return Parameter(f"{name}.weight", shape, "linear_weight", axes)


def _bias(name: str, width: int, axis: Axis) -> Parameter:
    return Parameter(f"{name}.bias", (width,), "linear_bias", (axis,))


def _causal_lm(config: GPTJConfig) -> Iterator[Parameter]:
    vocab, width = config.vocab_size, config.n_embd
    if not config.tie_word_embeddings:
        yield _weight("lm_head", (vocab, width), ("vocab", "embed"))
    yield _bias("lm_head", vocab, "vocab")


def _sequence_classification(config: GPTJConfig) -> Iterator[Parameter]:
    yield _weight("score", (config.num_labels, config.n_embd), ("labels", "embed"))


def _question_answering(config: GPTJConfig) -> Iterator[Parameter]:
    yield _weight("qa_outputs", (config.num_labels, config.n_embd), ("labels", "embed"))
    yield _bias("qa_outputs", config.num_labels, "labels")


_HEAD_PARAMETERS: Final = {
    "base": lambda config: iter(()),
    "causal_lm": _causal_lm,
    "sequence_classification": _sequence_classification,
    "question_answering": _question_answering,
}
