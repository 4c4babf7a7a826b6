"""The fields of a configuration as keyword arguments, typed for type checkers."""

from typing import Any, TypedDict

from gptj.spec.types import DType


class ConfigFields(TypedDict, total=False):
    """The fields of `GPTJConfig`, and the other names that users have for them."""

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


class ConfigArguments(ConfigFields, total=False):
    """What `GPTJConfig` takes: also the published fields that have no effect, and `extra`."""

    extra: dict[str, Any]
    rotary: object
    scale_attn_weights: object
    gradient_checkpointing: object
    n_ctx: object
    tokenizer_class: object
    name_or_path: object
    transformers_version: object
    summary_activation: object
    summary_first_dropout: object
    summary_proj_to_labels: object
    summary_type: object
    summary_use_proj: object
    torchscript: object
    tf_legacy_loss: object
    is_decoder: object
    is_encoder_decoder: object
    add_cross_attention: object
    pruned_heads: object
    chunk_size_feed_forward: object
    max_length: object
    min_length: object
    do_sample: object
    num_beams: object
    temperature: object
    top_k: object
    top_p: object
