"""Which mode decodes a request: the compiled loop, or one of the reference decoder.

Only `fits_compiled_loop` decides that a request leaves the backend's compiled loop. That loop is
faster, can do less and gives the same tokens, all together or one after the other.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from gptj.contract.decoding import NO_PAD, SeedWords
from gptj.errors import ArgumentError
from gptj.generation import assisted, contrastive, reference_decoder
from gptj.generation.beam_search import BeamSearch
from gptj.generation.cached_forward import CachedForward
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.no_token import check_drawn
from gptj.generation.options import GenerationConfig
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.prompts import Ids
from gptj.generation.streaming import feed
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import Tensor

log = logging.getLogger("gptj")

WHILE_TRACING: Final = (
    "Inside a compiled function generate() has max_new_tokens, min_new_tokens, do_sample, "
    "temperature, top_k, top_p, seed and the end and pad tokens. Call it outside for anything else."
)

REFERENCE_DECODER_ONLY: Final = (
    "min_length",
    "max_time",
    "stop_strings",
    "min_p",
    "typical_p",
    "filter_order",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "forced_eos_token_id",
    "num_beams",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "use_cache",
    "return_dict_in_generate",
)
"""Options that no compiled loop knows: where one is set, the reference decoder runs."""

Mode = Callable[[DecodeRequest, CachedForward, OutputRecorder], Iterator[Ids]]
"""A mode of the reference decoder: yields new tokens, (B, 1) each."""


def fits_compiled_loop(request: DecodeRequest) -> bool:
    """Return whether the backend's compiled loop can decode a request, at once or in steps."""
    inputs, can = request.inputs, request.backend.capabilities
    if not can.in_graph_decode or needs_reference_decoder(request.options):
        return False
    if request.plan.do_sample and not can.in_graph_sampling:
        return False
    if request.processors or request.criteria or request.assistant is not None:
        return False
    if inputs.embeds is not None or inputs.cache is not None:
        return False
    total = (inputs.length or 0) + request.plan.max_new_tokens
    return total <= request.model.config.n_positions


def needs_reference_decoder(options: GenerationConfig) -> bool:
    """Return whether the options ask for more than a compiled loop can do."""
    default = GenerationConfig()
    return any(getattr(options, name) != getattr(default, name) for name in REFERENCE_DECODER_ONLY)


def decode(request: DecodeRequest) -> Tensor | ModelOutput:
    """Continue prompts and return them with the new tokens, (B, T + new), as a tensor.

    Where `return_dict_in_generate` asks for it, in a `ModelOutput`. A streamer gets every step's
    tokens before the next is computed.

    Raises:
        ArgumentError: for a request that needs the reference decoder while the caller is tracing.
    """
    is_compiled = fits_compiled_loop(request)
    _check_padding(request)
    _warn_of_one_draw(request)
    if is_compiled and request.streamer is None:
        ids, mask = request.inputs.repeated(request.copies)
        return request.backend.decode(request.model, ids, mask, request.plan)
    if not request.inputs.is_concrete or isinstance(request.plan.seed, SeedWords):
        raise ArgumentError(WHILE_TRACING)
    if request.options.num_beams > 1:
        return BeamSearch(request).run()
    return _decode_with_compiled_steps(request) if is_compiled else _decode_by_reference(request)


def _check_padding(request: DecodeRequest) -> None:
    """Refuse a pad token that is none where nobody could see whether it is needed."""
    plan = request.plan
    if plan.pad_token_id == NO_PAD and plan.eos_token_ids and not request.inputs.is_concrete:
        raise ArgumentError(
            f"pad_token_id = {request.options.pad_token_id} is no token of the vocabulary, and a "
            "compiled function pads what has ended. Set it, for example to the end-of-text token."
        )


def _warn_of_one_draw(request: DecodeRequest) -> None:
    """Say that a seed which is drawn while the caller traces becomes part of the program."""
    if request.plan.do_sample and request.options.seed is None and not request.inputs.is_concrete:
        log.warning(
            "generate(): every call of the compiled function draws the same, as it has no seed: "
            "give it one."
        )


def stream(request: DecodeRequest) -> Iterator[Ids]:
    """Yield new tokens, (B, 1), each before the next is computed; not for beams."""
    if fits_compiled_loop(request):
        return _compiled_steps(request)
    return _reference_steps(request, *_runner_and_recorder(request))


def _compiled_steps(request: DecodeRequest) -> Iterator[Ids]:
    ids, mask = request.inputs.repeated(request.copies)
    return request.backend.stream(request.model, ids, mask, request.plan)


def _decode_with_compiled_steps(request: DecodeRequest) -> Tensor:
    given = request.prompt.given
    chosen = feed(request.streamer, given, _compiled_steps(request))
    return request.backend.from_numpy(np.hstack((given, *chosen)), request.model)


def _decode_by_reference(request: DecodeRequest) -> Tensor | ModelOutput:
    runner, recorder = _runner_and_recorder(request)
    steps = _reference_steps(request, runner, recorder)
    chosen = feed(request.streamer, request.prompt.given, steps)
    return recorder.deliver(np.hstack((request.prompt.given, *chosen)), runner)


def _reference_steps(
    request: DecodeRequest, runner: CachedForward, recorder: OutputRecorder
) -> Iterator[Ids]:
    """Yield the tokens of the reference decoder, (B, 1) each; refuse what is none at once."""
    steps = _reference_mode(request)(request, runner, recorder)
    for step, tokens in enumerate(steps):
        check_drawn(tokens, step)
        yield tokens


def _reference_mode(request: DecodeRequest) -> Mode:
    """Return the mode of the reference decoder that the options ask for."""
    if request.options.penalty_alpha is not None:
        return contrastive.decode
    return assisted.decode if request.draft_length else reference_decoder.decode


def _runner_and_recorder(request: DecodeRequest) -> tuple[CachedForward, OutputRecorder]:
    return CachedForward(request, extra=request.draft_length), OutputRecorder(request)
