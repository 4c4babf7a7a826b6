"""How each framework's published files name and orient the same weights.

The canonical name is PyTorch's. TensorFlow and Flax have other names for the leaves, by kind, and
store the weights of linear layers as (in, out).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gptj.spec.heads import HEADS
from gptj.spec.params import Kind, kind_of

TF_LEAVES: Final[dict[Kind, str]] = {
    "embedding": "weight",
    "linear_weight": "kernel",
    "linear_scale": "kernel_scale",
    "linear_bias": "bias",
    "norm_weight": "gamma",
    "norm_bias": "beta",
}
"""Kind of a parameter -> the last part of its variable's name in TensorFlow's published files."""

FLAX_LEAVES: Final[dict[Kind, str]] = {
    "embedding": "embedding",
    "linear_weight": "kernel",
    "linear_scale": "kernel_scale",
    "linear_bias": "bias",
    "norm_weight": "scale",
    "norm_bias": "bias",
}
"""Kind of a parameter -> the last part of its path in Flax's tree."""

CANONICAL_LEAVES: Final = {
    **dict.fromkeys(("weight", "embedding", "embeddings", "kernel", "gamma", "scale"), "weight"),
    **dict.fromkeys(("bias", "beta"), "bias"),
}
"""The last part of any framework's name -> the last part of the canonical one."""

TF_MODELS: Final = {
    "base": "tfgptj_model",
    "causal_lm": "tfgptj_for_causal_lm",
    "sequence_classification": "tfgptj_for_sequence_classification",
    "question_answering": "tfgptj_for_question_answering",
}
"""Head -> the model's name, with which TensorFlow's names of variables begin."""

TOP_MODULES: Final = (
    "transformer",
    *(module for head in HEADS.values() for module in head.modules),
)
"""The first parts of names in a model with a head."""

_INSIDE: Final = re.compile(rf".*(?:^|/)((?:{'|'.join(TOP_MODULES)})/.*)")
"""Strips the model's name, with which TensorFlow's names begin, from layers' names too."""


@dataclass(frozen=True)
class Dialect:
    """One framework's names for the tensors of a file.

    Attributes:
        canonical_name: from this dialect's name; unknown names stay as they are.
        native_name: from the canonical name.
        kernels_are_in_out: whether weights of linear layers are (in, out).
    """

    canonical_name: Callable[[str], str]
    native_name: Callable[[str], str]
    kernels_are_in_out: bool

    def transposes(self, name: str) -> bool:
        """Return whether the tensor of this canonical name is stored as (in, out)."""
        return self.kernels_are_in_out and kind_of(name) == "linear_weight"


def from_tf(key: str) -> str:
    """Return the canonical name of ``tfgptj_model/transformer/h_._0/attn/q_proj/kernel:0``."""
    path = _INSIDE.sub(r"\1", key.removesuffix(":0")).replace("/h_._", "/h/")
    return _with_canonical_leaf(path.replace("/", "."), key)


def to_tf(name: str) -> str:
    """Return TensorFlow's name of a canonical one, without the model's name."""
    path = _with_leaf(name, TF_LEAVES).replace(".", "/")
    path = path if path.startswith(TOP_MODULES) else f"transformer/{path}"
    return path.replace("/h/", "/h_._") + ":0"


def from_flax(key: str) -> str:
    """Return the canonical name of ``transformer/h/0/attn/q_proj/kernel``, with slashes or dots."""
    return _with_canonical_leaf(key.replace("/", "."), key)


def to_flax(name: str) -> str:
    """Return Flax's name of a canonical one, with slashes."""
    return _with_leaf(name, FLAX_LEAVES).replace(".", "/")


def _with_canonical_leaf(path: str, key: str) -> str:
    owner, _, leaf = path.rpartition(".")
    return f"{owner}.{CANONICAL_LEAVES[leaf]}" if leaf in CANONICAL_LEAVES else key


def _with_leaf(name: str, leaves: dict[Kind, str]) -> str:
    return f"{name.rpartition('.')[0]}.{leaves[kind_of(name)]}"


DIALECTS: Final = {
    "pt": Dialect(str, str, kernels_are_in_out=False),
    "tf": Dialect(from_tf, to_tf, kernels_are_in_out=True),
    "flax": Dialect(from_flax, to_flax, kernels_are_in_out=True),
}
"""``format`` of a safetensors file -> dialect."""
