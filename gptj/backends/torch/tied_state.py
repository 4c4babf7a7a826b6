"""The state of a tied model: its head's weight is the word table's, and is neither saved nor asked.

Programs write a state's tensors one by one, and refuse two that share their memory.
"""

from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from gptj.backends.torch.layers import Linear

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

TIED: Final = {"lm_head.weight": "transformer.wte.weight"}
"""The weight of a tied head -> the one that it is."""


def keep_tied(model: "TorchPretrained") -> None:
    """Let a model's state have the word table once, and be loaded from either form."""
    model.register_state_dict_post_hook(_leave_out)
    model.register_load_state_dict_pre_hook(_complete)
    model.register_load_state_dict_post_hook(_tie_again)


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
