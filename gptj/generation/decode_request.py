"""One call of generate(), checked and complete: every decoding mode starts from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gptj.contract.backend import Backend
from gptj.contract.decoding import DecodePlan
from gptj.contract.model import Model
from gptj.generation.decode_plan import make_plan
from gptj.generation.option_checks import check_combination
from gptj.generation.options import GenerationConfig
from gptj.generation.prompts import Inputs, Prompt
from gptj.generation.streaming import Streamer


@dataclass(frozen=True)
class DecodeRequest:
    """A checked call of generate().

    Attributes:
        inputs: the caller's prompts, in tensors of the framework.
        processors: the caller's own, ``(ids, scores) -> scores`` in tensors of the framework.
        criteria: the caller's own, ``(ids, scores) -> bool or (B,) of them``.
        assistant: a smaller model of the same vocabulary that drafts tokens.
        decode: turns token ids into text, for stop strings.
    """

    inputs: Inputs
    options: GenerationConfig
    plan: DecodePlan
    processors: Sequence[Any] = ()
    criteria: Sequence[Any] = ()
    streamer: Streamer | None = None
    assistant: Model | None = None
    decode: Callable[[Any], str] | None = None

    @property
    def backend(self) -> Backend:
        """The backend that runs the model."""
        return self.inputs.backend

    @property
    def model(self) -> Model:
        """The model that continues the prompts."""
        return self.inputs.model

    @property
    def copies(self) -> int:
        """Sequences that are decoded per prompt; beams share one."""
        return copies_of(self.options)

    @property
    def draft_length(self) -> int:
        """Tokens that are drafted before the model checks them, 0 for none."""
        if self.assistant is not None:
            return self.options.num_assistant_tokens
        return self.options.prompt_lookup_num_tokens or 0

    @cached_property
    def prompt(self) -> Prompt:
        """The prompts as arrays, copies included; only the reference decoder asks for them."""
        prompt = self.inputs.prompt(self.options, self.plan)
        if self.copies == 1:
            return prompt
        return prompt.repeated(self.copies, self.backend, self.model)


def copies_of(options: GenerationConfig) -> int:
    """Return how many sequences are decoded per prompt; beams share one."""
    return 1 if options.num_beams > 1 else options.num_return_sequences


def make_request(
    inputs: Inputs,
    options: GenerationConfig,
    *,
    numbers: Sequence[int] | None = None,
    assistant: Model | None = None,
    **others: Any,
) -> DecodeRequest:
    """Check prompts and options against the model and each other, once for the whole call.

    Args:
        numbers: of the prompts, by which their noise is drawn; 0 and on if None.
        others: further fields of the request.

    Raises:
        ArgumentError: for an impossible option, or two that exclude each other.
        InputError, TokenOutOfRange, SequenceTooLong: for a prompt that does not fit.
    """
    length = inputs.length
    inputs.check(options)
    config, has_assistant = inputs.model.config, assistant is not None
    counted = options
    if inputs.virtual and options.max_length is not None:  # which counts ids alone
        counted = replace(options, max_length=options.max_length + inputs.virtual)
    plan = make_plan(counted, length, config, has_assistant=has_assistant)
    if numbers is not None:
        copies = range(copies_of(options))
        plan = replace(
            plan, numbers=tuple(n * len(copies) + copy for n in numbers for copy in copies)
        )
    check_combination(
        options,
        assistant_model=assistant,
        past_key_values=inputs.cache,
        inputs_embeds=inputs.embeds,
    )
    return DecodeRequest(inputs, options, plan, assistant=assistant, **others)
