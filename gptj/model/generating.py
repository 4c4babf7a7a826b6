"""Generation with a language model: from token ids, from text to text, and as a stream of text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Unpack, overload

from gptj.contract.backend import AnyBackend, FrameworkBackend
from gptj.contract.cache import Cache
from gptj.contract.model import Model
from gptj.contract.tokenizer import Tokenizer
from gptj.errors import ArgumentError
from gptj.generation import decoder_choice, text
from gptj.generation.decode_request import DecodeRequest, make_request
from gptj.generation.foreign_options import OptionSource, as_options, start_options
from gptj.generation.keywords import GenerateOptions, StreamOptions, TextOptions
from gptj.generation.option_precedence import settle
from gptj.generation.option_rules import as_tuple, is_count
from gptj.generation.options import GenerationConfig
from gptj.generation.prompts import Inputs
from gptj.generation.streaming import Streamer
from gptj.generation.transition_scores import HOW, transition_scores
from gptj.generation.virtual_tokens import with_virtual_tokens
from gptj.model.text_batches import check_head, text_batches
from gptj.spec.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import Tensor, TensorLike
from gptj.tokenizer.lookup import find_tokenizer

Function = Callable[..., Any]

TensorT = TypeVar("TensorT", bound=Tensor)


class OfFramework(Protocol[TensorT]):
    """A model of a framework with these tensors, which generate() returns."""

    @property
    def backend(self) -> FrameworkBackend[Any, TensorT, Any]: ...


class TextGeneration:
    """Generation from tokens and from text; models of all backends inherit it.

    Attributes:
        own_options: the defaults of `generate` that came with the model or were set; None where
            they are its configuration's.
    """

    backend: ClassVar[AnyBackend]
    backend_name: ClassVar[str]
    head: ClassVar[str]
    config: GPTJConfig
    lora: LoraConfig | None
    source_folder: Path | None

    own_options: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """The defaults of `generate`; those of a new model are its configuration's."""
        if self.own_options is None:  # kept, so that programs can set its fields
            self.own_options = GenerationConfig.from_model(self.config)
        return self.own_options

    @generation_config.setter
    def generation_config(self, options: OptionSource | None) -> None:
        self.own_options = None if options is None else as_options(options)

    @overload  # the first to match, also where keywords are not known one by one
    def generate(
        self: OfFramework[TensorT],
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        return_dict_in_generate: Literal[False] = False,
        **options: Unpack[GenerateOptions],
    ) -> TensorT: ...
    @overload
    def generate(
        self,
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        return_dict_in_generate: Literal[True],
        **options: Unpack[GenerateOptions],
    ) -> ModelOutput: ...
    def generate(
        self,
        input_ids: TensorLike | None = None,
        attention_mask: TensorLike | None = None,
        *,
        inputs_embeds: TensorLike | None = None,
        past_key_values: Cache | None = None,
        generation_config: OptionSource | None = None,
        logits_processor: Sequence[Function] | None = None,
        stopping_criteria: Sequence[Function] | None = None,
        streamer: Streamer | None = None,
        assistant_model: Model | None = None,
        tokenizer: Tokenizer | None = None,
        **options: Any,
    ) -> Any:
        """Continue prompts: greedily, by sampling, with beams, or by contrastive search.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T) of 1 and 0 for prompts that are padded, on either side.
            inputs_embeds: (B, T, E), padded on the left only, instead of `input_ids`.
            past_key_values: a cache of the first tokens of `input_ids`, which are not computed
                again; one of a single sequence serves a whole batch.
            generation_config: options to start from, instead of the model's own; or another
                library's object, of which what is set stands above the model's own.
            logits_processor: functions ``(input_ids, scores) -> scores`` (B, V), after those of the
                options, in the framework's tensors; ``cur_len`` is passed to those that take it.
            stopping_criteria: functions ``(input_ids, scores)`` that return a bool or (B,) of them.
            streamer: gets every token before the next is computed.
            assistant_model: a smaller model that drafts tokens; the text stays the same.
            tokenizer: for `stop_strings`; the model's own if None.
            options: fields of `GenerationConfig`.

        Returns:
            (B * num_return_sequences, T + new) token ids of the framework, prompts included, or
            (.., new) for `inputs_embeds` alone. Finished sequences are filled with the pad token.
            With `return_dict_in_generate` a `ModelOutput`.

        Raises:
            ArgumentError: for an unknown or impossible option.
            InputError, TokenOutOfRange, SequenceTooLong: for a prompt that does not fit.
        """
        check_head(self)
        settings, foreign = start_options(self.config, self.own_options, generation_config)
        given = {**foreign, **options}
        has_assistant = assistant_model is not None
        settings = settings.updated(**options)
        settings = settle(settings, given, self.config.vocab_size, has_assistant)
        cache = self.own_cache(past_key_values)
        inputs = Inputs.of(self.backend, self, input_ids, attention_mask, inputs_embeds, cache)
        request = make_request(
            with_virtual_tokens(inputs, self.own_cache),
            settings,
            processors=logits_processor or (),
            criteria=stopping_criteria or (),
            streamer=streamer,
            assistant=assistant_model,
            decode=self._text_decoder(settings, tokenizer),
        )
        if cache is past_key_values:
            return decoder_choice.decode(request)
        return self.decode_into(past_key_values, request)

    def compute_transition_scores(
        self,
        sequences: TensorLike,
        scores: Sequence[TensorLike] | None,
        beam_indices: TensorLike | None = None,
        normalize_logits: bool = False,
    ) -> Tensor:
        """Return the score with which every new token was chosen, from what `generate` returned.

        Args:
            sequences: (R, T + N) token ids, prompts included.
            scores: of each of N steps (B, V), with ``output_scores=True``.
            beam_indices: (R, N) of a search with beams.
            normalize_logits: make log-probabilities of the scores first.

        Returns:
            (R, N) in the framework's tensors, 0 where a beam had ended.

        Raises:
            ArgumentError: without scores, or for what does not belong together.
        """
        if not scores:
            raise ArgumentError(f"There are no scores of any step. Ask for them: {HOW}.")
        values = self.backend.to_numpy
        beams = None if beam_indices is None else values(beam_indices)
        steps = [values(step) for step in scores]
        found = transition_scores(values(sequences), steps, beams, normalize_logits)
        scored: Tensor = self.backend.from_numpy(found, self)
        return scored

    def own_cache(self, cache: Any) -> Any:
        """Return a cache as one of this backend, also another library's that it can read."""
        return cache

    def decode_into(self, cache: Any, request: DecodeRequest) -> Tensor | ModelOutput:
        """Decode, and let another library's cache grow; for backends that can read one."""
        raise NotImplementedError  # only called where a prompt may have such a cache

    @overload
    def generate_text(self, prompts: str, **options: Unpack[TextOptions]) -> str: ...
    @overload
    def generate_text(
        self, prompts: list[str] | tuple[str, ...], **options: Unpack[TextOptions]
    ) -> list[str]: ...
    @overload
    def generate_text(
        self,
        prompts: str | Sequence[str],
        *,
        num_return_sequences: int,
        **options: Unpack[TextOptions],
    ) -> Any: ...
    def generate_text(
        self,
        prompts: str | Sequence[str],
        *,
        tokenizer: Tokenizer | None = None,
        strip_prompt: bool = False,
        batch_size: int = 8,
        **options: Any,
    ) -> Any:
        """Continue texts, and return texts.

        Args:
            prompts: one text, or several of any lengths.
            tokenizer: the model's own if None.
            strip_prompt: return only what is new.
            batch_size: prompts that are computed together; sorted by length, returned in order.
            options: as in `generate`. What neither they nor the model's generation options say is
                taken from the configuration's old ``task_specific_params``, if it has any and no
                `generation_config` is given.

        Returns:
            A text for a text, a list for a list; a list per prompt where `num_return_sequences` is
            more than 1. A text ends before the first of `stop_strings`.

        Raises:
            ArgumentError: for an empty prompt, or as in `generate`.
        """
        if not is_count(batch_size, 1):
            raise ArgumentError(f"batch_size must be a positive integer; found {batch_size!r}.")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        batches = text_batches(self, texts, tokenizer, options)
        starts = [""] * len(texts) if strip_prompt else texts
        found = [
            [start + new for new in written]
            for start, written in zip(starts, batches.by_length(batch_size), strict=True)
        ]
        is_one = batches.options.num_return_sequences == 1
        results = [written[0] for written in found] if is_one else found
        return results[0] if isinstance(prompts, str) else results

    def stream_text(
        self, prompt: str, *, tokenizer: Tokenizer | None = None, **options: Unpack[StreamOptions]
    ) -> Iterator[str]:
        """Yield what follows a text, piece by piece: each before the next token is computed.

        Arguments and errors as in `generate_text`. A character of several bytes comes whole. What
        might be the beginning of a stop string is held back until it is clear.
        """
        batches = text_batches(self, [prompt], tokenizer, options)
        settings = batches.options
        if settings.num_beams > 1 or settings.num_return_sequences > 1:
            raise ArgumentError(
                "stream_text shows one text while it is written: leave num_beams and "
                "num_return_sequences at 1, or call generate_text."
            )
        kept = takewhile(lambda token: not text.is_end(token, settings), batches.stream())
        return text.text_pieces(kept, batches.reader, as_tuple(settings.stop_strings or ()))

    def _text_decoder(
        self, settings: GenerationConfig, tokenizer: Tokenizer | None
    ) -> Function | None:
        """Return what turns token ids into text, where stop strings need it."""
        if settings.stop_strings is None:
            return None
        return (tokenizer or find_tokenizer(self.source_folder)).decode
