"""Known mistakes with the tables of words and with the order of layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gptj.diagnosis.computation import HEAD, PREFIX, TABLE, Computation, Weights
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.diagnosis.weight_mistakes import edited
from gptj.spec.reference.ops import Array


def tokens_off(right: Computation, value: int) -> Computation:
    return right.with_inputs(ids=(right.inputs.ids + value) % right.config.vocab_size)


def rows_of_head_off(right: Computation, value: int) -> Computation:
    return edited((HEAD, "lm_head.bias"), lambda array: np.roll(array, value, axis=0))(right)


def bias_of_head_off(right: Computation, value: int) -> Computation:
    return edited(("lm_head.bias",), lambda array: np.roll(array, value))(right)


def head_tied(right: Computation) -> Computation:
    return right.with_params(lambda name, weights: weights[TABLE if name == HEAD else name])


def table_from_head(right: Computation) -> Computation:
    return right.with_params(lambda name, weights: weights[HEAD if name == TABLE else name])


def of_layers(order: Callable[[int], list[int]]) -> Any:
    """Return the mistake that reads the layers in another order, or fewer."""

    def change(right: Computation) -> Computation:
        layers = order(right.config.n_layer)

        def edit(name: str, weights: Weights) -> Array:
            start = f"{PREFIX}h."
            if not name.startswith(start):
                return weights[name]
            layer, _, rest = name.removeprefix(start).partition(".")
            return weights[f"{start}{layers[int(layer)]}.{rest}"]

        return right.with_params(edit).with_config(n_layer=len(layers))

    return change


def layer_left_out(right: Computation, value: int) -> Computation:
    layers = [*range(right.config.n_layer)]
    missing = layers[value]
    return of_layers(lambda count: [layer for layer in layers if layer != missing])(right)


MISTAKES = (
    Hypothesis(
        "head_tied",
        "The word table serves as lm_head, although the model has its own.",
        "Read lm_head.weight: tie_word_embeddings is false.",
        head_tied,
    ),
    Hypothesis(
        "table_from_head",
        "The weight of lm_head serves as the word table.",
        "Read transformer.wte.weight: the two are not tied.",
        table_from_head,
    ),
    Hypothesis(
        "table_rows_off",
        "Words are looked up {value} row(s) further in the table.",
        "Row i of wte is token i; check tokens that were added or left out in front.",
        tokens_off,
        (-3, -2, -1, 1, 2, 3),
    ),
    Hypothesis(
        "head_rows_off",
        "The rows of lm_head are those of tokens {value} place(s) before.",
        "Row i of lm_head is token i.",
        rows_of_head_off,
        (-2, -1, 1, 2),
    ),
    Hypothesis(
        "head_bias_rows_off",
        "The bias of lm_head is that of tokens {value} place(s) before.",
        "Number i of lm_head.bias is token i.",
        bias_of_head_off,
        (-1, 1),
    ),
    Hypothesis(
        "layer_left_out",
        "Layer {value} is left out.",
        "Run every layer, 0 to n_layer - 1.",
        layer_left_out,
        (0, -1),
    ),
    Hypothesis(
        "layers_sorted_as_text",
        "Layers are in the order of their numbers as text: 0, 1, 10, 11, 2.",
        "Sort layers by number.",
        of_layers(lambda count: sorted(range(count), key=str)),
    ),
    Hypothesis(
        "layers_reversed",
        "Layers run in the opposite order.",
        "Run layer 0 first.",
        of_layers(lambda count: [*range(count)][::-1]),
    ),
    Hypothesis(
        "one_layer_for_all",
        "Every layer has the weights of layer 0.",
        "Read each layer's own weights.",
        of_layers(lambda count: [0] * count),
    ),
)
