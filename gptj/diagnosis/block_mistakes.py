"""Known mistakes with the MLP, the residual stream, the embeddings and the output."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gptj.diagnosis.computation import TABLE, Computation
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.spec.reference import ops
from gptj.spec.reference.ops import Array


def fed(read: Callable[..., Array]) -> Any:
    """Return the mistake of an MLP that reads something else than the norm."""

    def change(right: Computation) -> Computation:
        return right.with_maths(mlp_input=read)

    return change


def _bare_norm(norm: Array, x: Array, attended: Array, normalise: Any) -> Array:
    """A second norm that has its initial weights."""
    ones = np.ones(x.shape[-1], x.dtype)
    return ops.layer_norm(x, ones, 0 * ones, 1e-5)


def sequential_bare(right: Computation) -> Computation:
    return fed(lambda norm, x, attended, normalise: _bare_norm(norm, x + attended, x, normalise))(
        right
    )


def added(add: Callable[[Array, Array, Array, Array], Array]) -> Any:
    """Return the mistake of another sum at the end of a block: attended, fed, x, norm."""

    def change(right: Computation) -> Computation:
        return right.with_maths(add=add)

    return change


def attention_scaled(right: Computation, value: float) -> Computation:
    return added(lambda attended, fed, x, norm: value * attended + fed + x)(right)


def mlp_scaled(right: Computation, value: float) -> Computation:
    return added(lambda attended, fed, x, norm: attended + value * fed + x)(right)


def activated(right: Computation, value: str) -> Computation:
    return right.with_config(activation_function=value)


def linear_activation(right: Computation) -> Computation:
    return right.with_maths(activate=lambda name, x: x)


def gelu_of_tanh_cut(right: Computation) -> Computation:
    """The tanh approximation without its cubic term."""
    root = np.sqrt(2.0 / np.pi)
    return right.with_maths(activate=lambda name, x: 0.5 * x * (1.0 + np.tanh(root * x)))


def embeddings_scaled(right: Computation, value: float) -> Computation:
    return _embedded(right, lambda x: x * value)


def embeddings_by_root(right: Computation) -> Computation:
    return _embedded(right, lambda x: x * np.sqrt(x.shape[-1]))


def _embedded(right: Computation, change: Callable[[Array], Array]) -> Computation:
    return right.with_params(
        lambda name, weights: (
            change(np.asarray(weights[name], right.dtype)) if name == TABLE else weights[name]
        )
    )


def logits_scaled(right: Computation, value: float) -> Computation:
    finish = right.finish
    return replace(right, finish=lambda logits: finish(logits) * value)


def logits_shifted(right: Computation, value: int) -> Computation:
    """Hand out the logits of another position."""
    finish = right.finish
    return replace(right, finish=lambda logits: np.roll(finish(logits), value, axis=-2))


def logits_capped(right: Computation, value: float) -> Computation:
    finish = right.finish
    return replace(right, finish=lambda logits: value * np.tanh(finish(logits) / value))


ACTIVATIONS = ("gelu", "gelu_new", "quick_gelu", "relu", "silu", "tanh")

MISTAKES = (
    Hypothesis(
        "residual_sequential",
        "The MLP follows the attention: it reads the norm of the residual after it.",
        "Feed attention and MLP from the same ln_1 of the block's input, side by side.",
        fed(lambda norm, x, attended, normalise: normalise(x + attended)),
    ),
    Hypothesis(
        "residual_sequential_second_norm",
        "The MLP follows the attention, with a second norm that has its initial weights.",
        "GPT-J has one norm per block; feed attention and MLP from it, side by side.",
        sequential_bare,
    ),
    Hypothesis(
        "second_norm",
        "The MLP has a second layer norm of its own, with initial weights.",
        "GPT-J has one norm per block: feed the MLP from ln_1.",
        fed(_bare_norm),
    ),
    Hypothesis(
        "norm_twice_before_mlp",
        "The MLP reads ln_1 applied twice.",
        "Feed the MLP from the output of ln_1.",
        fed(lambda norm, x, attended, normalise: normalise(norm)),
    ),
    Hypothesis(
        "mlp_without_norm",
        "The MLP reads the residual without a norm.",
        "Feed the MLP from ln_1.",
        fed(lambda norm, x, attended, normalise: x),
    ),
    Hypothesis(
        "mlp_reads_attention",
        "The MLP reads the output of the attention.",
        "Feed the MLP from ln_1 of the block's input.",
        fed(lambda norm, x, attended, normalise: attended),
    ),
    Hypothesis(
        "residual_missing",
        "The input of a block is not added to its output.",
        "Return attention + MLP + input.",
        added(lambda attended, fed, x, norm: attended + fed),
    ),
    Hypothesis(
        "residual_of_norm",
        "The normalised input of a block is added in place of the input.",
        "Add the input as it was before ln_1.",
        added(lambda attended, fed, x, norm: attended + fed + norm),
    ),
    Hypothesis(
        "residual_twice",
        "The input of a block is added twice, by attention and by MLP.",
        "Add it once.",
        added(lambda attended, fed, x, norm: attended + fed + 2 * x),
    ),
    Hypothesis(
        "attention_left_out",
        "The output of the attention is not added.",
        "Return attention + MLP + input.",
        added(lambda attended, fed, x, norm: fed + x),
    ),
    Hypothesis(
        "mlp_left_out",
        "The output of the MLP is not added.",
        "Return attention + MLP + input.",
        added(lambda attended, fed, x, norm: attended + x),
    ),
    Hypothesis(
        "attention_scaled",
        "The output of the attention is multiplied by {value} before it is added.",
        "Return attention + MLP + input.",
        attention_scaled,
        (0.25, 0.5, 2.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "mlp_scaled",
        "The output of the MLP is multiplied by {value} before it is added.",
        "Return attention + MLP + input.",
        mlp_scaled,
        (0.25, 0.5, 2.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "activation_wrong",
        "The activation of the MLP is {value}.",
        "Take activation_function from the configuration; GPT-J's is gelu_new, the tanh form.",
        activated,
        ACTIVATIONS,
    ),
    Hypothesis(
        "activation_missing",
        "The MLP has no activation.",
        "Apply activation_function between fc_in and fc_out.",
        linear_activation,
    ),
    Hypothesis(
        "activation_without_cube",
        "The tanh form of GELU lacks its cubic term.",
        "0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))",
        gelu_of_tanh_cut,
    ),
    Hypothesis(
        "embeddings_times_root",
        "Embeddings are multiplied by the root of the model's width.",
        "Take the rows of wte as they are.",
        embeddings_by_root,
    ),
    Hypothesis(
        "embeddings_scaled",
        "Embeddings are multiplied by {value}.",
        "Take the rows of wte as they are.",
        embeddings_scaled,
        (0.25, 0.5, 2.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "logits_scaled",
        "Logits are multiplied by {value}.",
        "Hand out the logits before temperature.",
        logits_scaled,
        (0.25, 0.5, 0.8, 1.25, 2.0, 4.0),
        between=True,
    ),
    Hypothesis(
        "logits_shifted",
        "The logits are those of {value} position(s) before.",
        "Logits at a position are for the token after it.",
        logits_shifted,
        (-1, 1),
        mixes=True,
    ),
    Hypothesis(
        "logits_capped",
        "Logits are capped by a tanh at {value}.",
        "GPT-J's logits have no cap.",
        logits_capped,
        (30.0, 50.0),
    ),
)
