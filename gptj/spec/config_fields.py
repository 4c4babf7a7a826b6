"""The fields of a configuration as keyword arguments, for whoever checks types."""

from typing import Any, TypedDict

from gptj.spec.types import DType


class ConfigFields(TypedDict, total=False):
    """What `GPTJConfig` takes: its fields, and the other names that users have for them."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    rotary_dim: int | None
    n_inner: int | None
    activation_function: str
    resid_pdrop: float
    embd_pdrop: float
    attn_pdrop: float
    layer_norm_epsilon: float
    initializer_range: float
    use_cache: bool
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    tie_word_embeddings: bool
    pad_token_id: int | None
    return_dict: bool
    output_hidden_states: bool
    output_attentions: bool
    id2label: dict[int, str]
    label2id: dict[str, int]
    problem_type: str | None
    dtype: DType
    architectures: list[str] | None
    task_specific_params: dict[str, Any] | None
    quantization_config: dict[str, Any] | None
    num_labels: int | None
    max_position_embeddings: int
    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    torch_dtype: DType
