"""The options of generate() as keyword arguments, for type checkers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from gptj.contract.cache import Cache
from gptj.contract.model import Model
from gptj.contract.tokenizer import Tokenizer
from gptj.generation.foreign_options import OptionSource
from gptj.generation.streaming import Streamer
from gptj.spec.types import TensorLike


class GenerationOptions(TypedDict, total=False):
    """The fields of `GenerationConfig`, but for two that change the type of the result.

    These are `return_dict_in_generate` and, from text to text, `num_return_sequences`.
    """

    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int
    min_length: int
    max_time: float | None
    stop_strings: str | Sequence[str] | None
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float | None
    typical_p: float
    filter_order: str
    seed: int | None
    repetition_penalty: float
    no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]] | None
    suppress_tokens: Sequence[int] | None
    begin_suppress_tokens: Sequence[int] | None
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[Sequence[object]] | None
    forced_eos_token_id: int | Sequence[int] | None
    renormalize_logits: bool
    num_beams: int
    num_beam_groups: int
    diversity_penalty: float
    length_penalty: float
    early_stopping: bool | str
    penalty_alpha: float | None
    prompt_lookup_num_tokens: int | None
    max_matching_ngram_size: int
    num_assistant_tokens: int
    eos_token_id: int | Sequence[int] | None
    pad_token_id: int | None
    bos_token_id: int | None
    truncation: str | None
    use_cache: bool
    output_scores: bool
    output_logits: bool
    output_attentions: bool
    output_hidden_states: bool


class GenerateOptions(GenerationOptions, total=False):
    """What ``model.generate`` takes besides `input_ids` and `attention_mask`."""

    inputs_embeds: TensorLike | None
    past_key_values: Cache | None
    generation_config: OptionSource | None
    logits_processor: Sequence[Callable[..., Any]] | None
    stopping_criteria: Sequence[Callable[..., Any]] | None
    streamer: Streamer | None
    assistant_model: Model | None
    tokenizer: Tokenizer | None
    num_return_sequences: int


class StreamOptions(GenerationOptions, total=False):
    """What ``model.stream_text`` takes besides a prompt."""

    generation_config: OptionSource | None


class TextOptions(StreamOptions, total=False):
    """What ``model.generate_text`` takes besides prompts."""

    tokenizer: Tokenizer | None
    strip_prompt: bool
    batch_size: int
