"""Known mistakes with weights: left out, exchanged, transposed, permuted."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gptj.diagnosis.computation import HEAD, Computation, Weights
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.spec.reference.ops import Array

QUERY, KEY, VALUE, OUTPUT = (f"attn.{name}_proj.weight" for name in ("q", "k", "v", "out"))


def edited(endings: tuple[str, ...], change: Callable[[Array], Array]) -> Any:
    """Return the mistake that changes all weights whose names end so."""

    def edit(name: str, weights: Weights) -> Array:
        array = weights[name]
        return change(np.asarray(array)) if name.endswith(endings) else array

    return lambda right: right.with_params(edit)


def exchanged(first: str, second: str) -> Any:
    """Return the mistake that reads one weight for another, and the other for it."""

    def edit(name: str, weights: Weights) -> Array:
        for here, there in ((first, second), (second, first)):
            if name.endswith(here):
                return weights[name.removesuffix(here) + there]
        return weights[name]

    return lambda right: right.with_params(edit)


def cycled(right: Computation) -> Computation:
    """Read q, v and k where q, k and v ... each from the one before."""
    takes = {QUERY: VALUE, KEY: QUERY, VALUE: KEY}

    def edit(name: str, weights: Weights) -> Array:
        for here, there in takes.items():
            if name.endswith(here):
                return weights[name.removesuffix(here) + there]
        return weights[name]

    return right.with_params(edit)


def _heads(right: Computation, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a change of rows, given as (H, D, E)."""
    heads = right.config.n_head

    def of_rows(weight: Array) -> Array:
        return change(weight.reshape(heads, -1, weight.shape[-1])).reshape(weight.shape)

    return of_rows


def _to_halves(width: int) -> Callable[[Array], Array]:
    """Sort rows (H, D, E): even ones of the first `width`, odd ones, the rest."""
    order = np.r_[0:width:2, 1:width:2]
    return lambda rows: np.concatenate((rows[:, order], rows[:, width:]), axis=1)


def _from_halves(width: int) -> Callable[[Array], Array]:
    order = np.argsort(np.r_[0:width:2, 1:width:2])
    return lambda rows: np.concatenate((rows[:, order], rows[:, width:]), axis=1)


def permuted(order: Any, whole: bool) -> Any:
    """Return the mistake of query and key rows in another order."""

    def change(right: Computation) -> Computation:
        config = right.config
        width = config.head_dim // 2 * 2 if whole else config.rotated_dim
        return edited((QUERY, KEY), _heads(right, order(width)))(right)

    return change


def heads_reversed(right: Computation) -> Computation:
    return edited((QUERY, KEY), _heads(right, lambda rows: rows[::-1]))(right)


def columns_of_heads_reversed(right: Computation) -> Computation:
    heads = right.config.n_head

    def change(weight: Array) -> Array:
        return weight.reshape(len(weight), heads, -1)[:, ::-1].reshape(weight.shape)

    return edited((OUTPUT,), change)(right)


def bias_counted(right: Computation, value: float) -> Computation:
    return edited(("mlp.fc_out.bias",), lambda bias: bias * value)(right)


def _zeros(array: Array) -> Array:
    return np.zeros_like(array)


def _transposed(array: Array) -> Array:
    return array.T if array.shape[0] == array.shape[1] else array.T.reshape(array.shape)


ORIENTATION = "A weight is (out, in), and y = x W^T; other frameworks keep the transpose."
NORM_WEIGHTS, NORM_BIASES = ("ln_1.weight", "ln_f.weight"), ("ln_1.bias", "ln_f.bias")

LEFT_OUT = (
    ("head_bias_dropped", ("lm_head.bias",), "The bias of lm_head is left out.",
     "lm_head has a bias, unlike that of most models: add it."),
    ("head_zero", (HEAD,), "The weight of lm_head is zero, as if it had not been loaded.",
     "Load lm_head.weight, or tie it where the configuration says so."),
    ("head_without_weights", (HEAD, "lm_head.bias"), "lm_head was left at zero: weight and bias.",
     "Load lm_head.weight and lm_head.bias."),
    ("mlp_input_bias_dropped", ("mlp.fc_in.bias",), "The bias of fc_in is left out.",
     "Add mlp.fc_in.bias."),
    ("mlp_output_bias_dropped", ("mlp.fc_out.bias",), "The bias of fc_out is left out.",
     "Add mlp.fc_out.bias."),
    ("mlp_biases_dropped", ("mlp.fc_in.bias", "mlp.fc_out.bias"),
     "The biases of fc_in and fc_out are left out.", "Add them: the MLP has biases."),
    ("all_biases_dropped", ("mlp.fc_in.bias", "mlp.fc_out.bias", "lm_head.bias"),
     "All biases of linear layers are left out.",
     "The MLP and lm_head have biases; only the attention has none."),
    ("norm_biases_dropped", NORM_BIASES, "The biases of the layer norms are left out.",
     "Add ln_1.bias and ln_f.bias."),
    ("first_norm_bias_dropped", ("ln_1.bias",), "The bias of ln_1 is left out.", "Add ln_1.bias."),
    ("final_norm_bias_dropped", ("ln_f.bias",), "The bias of ln_f is left out.", "Add ln_f.bias."),
)  # fmt: skip

SWAPS = (
    ("queries_and_keys_swapped", QUERY, KEY, "The weights of queries and keys are exchanged."),
    ("keys_and_values_swapped", KEY, VALUE, "The weights of keys and values are exchanged, as in "
     "the order q, v, k of mesh-transformer-jax."),
    ("queries_and_values_swapped", QUERY, VALUE,
     "The weights of queries and values are exchanged."),
    ("values_and_output_swapped", VALUE, OUTPUT,
     "The weights of values and of the attention's output are exchanged."),
)  # fmt: skip

TRANSPOSED = (
    ("queries_transposed", (QUERY,), "The weight of queries is transposed."),
    ("keys_transposed", (KEY,), "The weight of keys is transposed."),
    ("queries_and_keys_transposed", (QUERY, KEY),
     "The weights of queries and keys are transposed."),
    ("values_transposed", (VALUE,), "The weight of values is transposed."),
    ("attention_output_transposed", (OUTPUT,),
     "The weight of the attention's output is transposed."),
    ("attention_transposed", (QUERY, KEY, VALUE, OUTPUT),
     "All weights of the attention are transposed."),
    ("mlp_transposed", ("mlp.fc_in.weight", "mlp.fc_out.weight"),
     "The weights of the MLP are read in the other order of their axes."),
    ("head_transposed", (HEAD,), "The weight of lm_head is read in the other order of its axes."),
)  # fmt: skip

MISTAKES = (
    *(Hypothesis(name, sentence, remedy, edited(endings, _zeros))
      for name, endings, sentence, remedy in LEFT_OUT),
    *(Hypothesis(name, sentence, "Give each projection its own weight.", exchanged(first, second))
      for name, first, second, sentence in SWAPS),
    *(Hypothesis(name, sentence, ORIENTATION, edited(endings, _transposed))
      for name, endings, sentence in TRANSPOSED),
    Hypothesis(
        "projections_cycled",
        "Queries, keys and values have each other's weights, all three in turn.",
        "Give each projection its own weight.",
        cycled,
    ),
    Hypothesis(
        "rows_sorted_in_halves",
        "The rotated rows of q_proj and k_proj are sorted into halves, but neighbours are rotated.",
        "Leave the rows as they are, or rotate in halves; do not do one without the other.",
        permuted(_to_halves, whole=False),
    ),
    Hypothesis(
        "rows_sorted_from_halves",
        "The rotated rows of q_proj and k_proj are sorted as if they had come in halves.",
        "GPT-J's rows are interleaved already: leave them as they are.",
        permuted(_from_halves, whole=False),
    ),
    Hypothesis(
        "rows_of_heads_sorted_in_halves",
        "All rows of a head in q_proj and k_proj are sorted into halves.",
        "Leave the rows as they are: neighbours among the first rotary_dim are pairs.",
        permuted(_to_halves, whole=True),
    ),
    Hypothesis(
        "rows_of_heads_sorted_from_halves",
        "All rows of a head in q_proj and k_proj are sorted as if they had come in halves.",
        "GPT-J's rows are interleaved already: leave them as they are.",
        permuted(_from_halves, whole=True),
    ),
    Hypothesis(
        "heads_of_queries_reversed",
        "The heads of queries and keys are in the opposite order to those of values.",
        "Join shards in their order, the same for all projections.",
        heads_reversed,
    ),
    Hypothesis(
        "heads_of_output_reversed",
        "The columns of the attention's output belong to the heads in the opposite order.",
        "Join shards in their order, the same for all projections.",
        columns_of_heads_reversed,
    ),
    Hypothesis(
        "mlp_bias_per_shard",
        "The bias of fc_out is counted {value} times, as if once per shard.",
        "Add it once, after the sum over shards.",
        bias_counted,
        (2.0, 4.0, 8.0, 16.0),
        between=True,
    ),
    Hypothesis(
        "norm_weights_ignored",
        "The weights of the layer norms are ignored: they are 1.",
        "Multiply by ln_1.weight and ln_f.weight.",
        edited(NORM_WEIGHTS, np.ones_like),
    ),
    Hypothesis(
        "norms_not_loaded",
        "The layer norms have their initial weights: 1 and 0.",
        "Load weights and biases of ln_1 and ln_f.",
        lambda right: edited(NORM_BIASES, _zeros)(edited(NORM_WEIGHTS, np.ones_like)(right)),
    ),
)  # fmt: skip
