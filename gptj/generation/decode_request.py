"""One call of generate(), checked and complete: every decoding mode starts from it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gptj.contract.backend import Backend
from gptj.contract.decoding import DecodePlan
from gptj.contract.model import Model
from gptj.generation.decode_plan import make_plan
from gptj.generation.option_checks import check_combination, warn_unused
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
        return 1 if self.options.num_beams > 1 else self.options.num_return_sequences

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


def make_request(
    inputs: Inputs,
    options: GenerationConfig,
    *,
    given: Collection[str] = (),
    assistant: Model | None = None,
    **others: Any,
) -> DecodeRequest:
    """Check prompts and options against the model and each other, once for the whole call.

    Args:
        given: names of options of which one that has no effect deserves a warning.
        others: further fields of the request.

    Raises:
        ArgumentError: for an impossible option, or two that exclude each other.
        InputError, TokenOutOfRange, SequenceTooLong: for a prompt that does not fit.
    """
    inputs.check(options)
    plan = make_plan(options, inputs.length, inputs.model.config)
    if given:
        warn_unused(given, options, assistant is not None)
    check_combination(
        options,
        assistant_model=assistant,
        past_key_values=inputs.cache,
        inputs_embeds=inputs.embeds,
    )
    return DecodeRequest(inputs, options, plan, assistant=assistant, **others)
