"""A GPT-J as a folder of CTranslate2, made from lazy tensors with its own specification classes.

CTranslate2 has queries, keys and values in one matmul, and rotates the two halves of a head's
rotated dimensions against each other: rows 0, 2, 4 ... of a head become its first half.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import ctranslate2
import numpy as np
import numpy.typing as npt
from ctranslate2.specs import TransformerDecoderModelSpec
from ctranslate2.specs.common_spec import Activation

from gptj.backends.ctranslate2.variables import LazyVariable
from gptj.errors import UnsupportedFeature
from gptj.spec.config import GPTJConfig
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.tensors import LazyTensor, Tensors

FORM: Final = {"form": 1, "ctranslate2": ctranslate2.__version__}
"""What a converted folder depends on besides the model."""

ACTIVATION: Final = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELUTanh,
    "quick_gelu": Activation.GELUSigmoid,
    "relu": Activation.RELU,
    "silu": Activation.SWISH,
    "swish": Activation.SWISH,
    "tanh": Activation.Tanh,
}
"""Name -> CTranslate2's number."""


def write_model(
    folder: Path,
    config: GPTJConfig,
    params: Tensors,
    tokens: Mapping[int, str],
    *,
    quantization: str | None = None,
) -> None:
    """Write ``model.bin``, ``config.json`` and ``vocabulary.json`` into a folder.

    Weights are read one at a time, and written in their own dtype unless they are quantized.

    Args:
        params: those of the causal language model, float32, bfloat16 or float16.
        tokens: of the tokenizer, by id; see `fitted_vocabulary`.
        quantization: a compute type of CTranslate2, such as ``"int8"``.

    Raises:
        UnsupportedFeature: for a language-model head that is not all numbers.
    """
    _check_head(config, params)
    spec = TransformerDecoderModelSpec.from_config(
        config.n_layer,
        config.n_head,
        pre_norm=True,
        activation=ACTIVATION[config.activation_function],
        rotary_dim=config.rotated_dim,
        rotary_interleave=False,
        parallel_residual=True,
        shared_layer_norm=True,
    )
    spec.decoder.scale_embeddings = False
    _set_weights(spec.decoder, config, params)
    vocabulary = fitted_vocabulary(tokens, config.vocab_size)
    spec.register_vocabulary(vocabulary)
    ends = np.atleast_1d([] if config.eos_token_id is None else config.eos_token_id)
    end = next((int(token) for token in ends if 0 <= token < config.vocab_size), 0)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = vocabulary[end]
    spec.config.layer_norm_epsilon = config.layer_norm_epsilon
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))


def fitted_vocabulary(tokens: Mapping[int, str], size: int) -> list[str]:
    """Return exactly `size` tokens: what has no row is left out, a row without a token is named."""
    known = set(tokens.values())
    fitted = []
    for row in range(size):
        name = tokens.get(row, f"<|row_{row}|>")
        while row not in tokens and name in known:
            name = f"<{name}>"
        fitted.append(name)
    return fitted


def _check_head(config: GPTJConfig, params: Tensors) -> None:
    """Refuse NaN and infinity in the head: decoding would pass over that token without a word."""
    for name in (EMBEDDING if config.tie_word_embeddings else LM_HEAD, "lm_head.bias"):
        if not np.isfinite(params[name].read()).all():
            raise UnsupportedFeature(
                f"{name} holds NaN or infinity, and CTranslate2 would generate text as if that "
                "token were not there. `gptj inspect` lists such weights; torch, tf, flax and "
                "numpy load them."
            )


def _set_weights(decoder: Any, config: GPTJConfig, params: Tensors) -> None:
    """Point every weight of the specification to its tensor."""
    embedding = _variable(params[EMBEDDING])
    decoder.embeddings.weight = embedding
    tied = config.tie_word_embeddings
    decoder.projection.weight = embedding if tied else _variable(params[LM_HEAD])
    decoder.projection.bias = _variable(params["lm_head.bias"])
    _set_norm(decoder.layer_norm, params, "transformer.ln_f")
    order = rotary_order(config)
    for number, layer in enumerate(decoder.layer):
        prefix = f"transformer.h.{number}"
        _set_norm(layer.shared_layer_norm, params, f"{prefix}.ln_1")
        names = [f"{prefix}.attn.{name}_proj.weight" for name in ("q", "k", "v", "out")]
        *projections, output = (params[name] for name in names)
        layer.self_attention.linear[0].weight = _joined(projections, order)
        layer.self_attention.linear[1].weight = _variable(output)
        for linear, name in ((layer.ffn.linear_0, "fc_in"), (layer.ffn.linear_1, "fc_out")):
            linear.weight = _variable(params[f"{prefix}.mlp.{name}.weight"])
            linear.bias = _variable(params[f"{prefix}.mlp.{name}.bias"])


def _set_norm(norm: Any, params: Tensors, name: str) -> None:
    norm.gamma, norm.beta = (_variable(params[f"{name}.{part}"]) for part in ("weight", "bias"))


def rotary_order(config: GPTJConfig) -> npt.NDArray[np.int64]:
    """Return the rows of a projection, (E,), with each head's even rotated ones before its odd."""
    rows = np.arange(config.n_embd).reshape(config.n_head, config.head_dim)
    width = config.rotated_dim
    parts = (rows[:, :width:2], rows[:, 1:width:2], rows[:, width:])
    return np.concatenate(parts, axis=1).reshape(-1)


def _variable(tensor: LazyTensor) -> LazyVariable:
    return LazyVariable(tensor.shape, tensor.dtype.name, tensor.read)


def _joined(projections: Sequence[LazyTensor], order: npt.NDArray[np.int64]) -> LazyVariable:
    """Return the projections of queries, keys and values below each other, (3 E, E)."""
    query, key, value = projections
    height, width = query.shape

    def make() -> npt.NDArray[Any]:
        return np.concatenate((query.read()[order], key.read()[order], value.read()))

    return LazyVariable((3 * height, width), query.dtype.name, make)
