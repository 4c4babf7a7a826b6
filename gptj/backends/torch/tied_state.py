"""The state of a tied model: its head's weight is the word table's, and is neither saved nor asked.

Programs write a state's tensors one by one, and refuse two that share their memory.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from gptj.backends.torch.layers import Linear
from gptj.errors import UnsupportedFeature

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

log = logging.getLogger("gptj")

REPLACED: Final = "tied_head_replaced"
"""The name under which it is noted that this was said."""

TIED: Final = {"lm_head.weight": "transformer.wte.weight"}
"""The weight of a tied head -> the one that it is."""


def keep_tied(model: "TorchPretrained") -> None:
    """Let a model's state have the word table once, and be loaded from either form."""
    model.register_state_dict_post_hook(_leave_out)
    model.register_load_state_dict_pre_hook(_complete)
    model.register_load_state_dict_post_hook(_tie_again)


def warn_of_replaced(model: "TorchPretrained") -> None:
    """Say once that another library has replaced the weight of a tied head, but not the table."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    weight: Any = getattr(head, "weight", table)
    if weight is table or not hasattr(weight.data, "__tensor_flatten__"):
        return
    if hasattr(table.data, "__tensor_flatten__") or model.warnings_issued.get(REPLACED):
        return
    model.warnings_issued[REPLACED] = True
    log.warning(
        "The weight of lm_head, which was the word table's, is now a separate %s: the model takes "
        "more memory, not less. Leave the head out where weights are replaced, for example with "
        "torchao's filter_fn=lambda module, name: isinstance(module, torch.nn.Linear) and name != "
        "'lm_head'.",
        type(weight.data).__name__,
    )


def check_tied(model: "TorchPretrained") -> list[Tensor]:
    """Return the weight of a tied head, which is in no file: it is the word table's.

    Raises:
        UnsupportedFeature: for a weight of its own, which a file of a tied model has no room for.
    """
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None or not model.config.tie_word_embeddings:
        return []
    table = model.get_input_embeddings().weight
    if weight is table or table.is_meta:  # without values to compare
        return [weight]
    if not (type(weight.data) is type(table.data) and torch.equal(weight, table)):
        raise UnsupportedFeature(
            "The configuration has tie_word_embeddings = True, but the weight of lm_head is no "
            "longer the word table's: something has replaced one of the two. Call tie_weights() to "
            "drop the head's, or set model.config.tie_word_embeddings = False to save both."
        )
    return [weight]


def _leave_out(model: Any, state: dict[str, Tensor], prefix: str, metadata: object) -> None:
    """Take the head's weight out of a state if it is the table's."""
    table = model.get_input_embeddings()
    head = model.get_output_embeddings()
    if isinstance(head, Linear) and head.weight is getattr(table, "weight", None):
        for name in TIED:
            state.pop(prefix + name, None)


def _complete(model: Any, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Put the head's weight of a tied model into a state that lacks it."""
    if not isinstance(model.get_output_embeddings(), Linear):
        return
    for name, other in TIED.items() if model.config.tie_word_embeddings else ():
        if prefix + name not in state and prefix + other in state:
            state[prefix + name] = state[prefix + other]


def _tie_again(model: Any, incompatible: object) -> None:
    """Make one parameter of two that ``assign=True`` has made of one tensor."""
    head = model.get_output_embeddings()
    if isinstance(head, Linear) and model.config.tie_word_embeddings:
        table = model.get_input_embeddings().weight
        if head.weight is not table and head.weight.data_ptr() == table.data_ptr():
            model.tie_weights()
