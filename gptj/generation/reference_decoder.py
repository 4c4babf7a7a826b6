"""The reference decoder: one token per sequence and step, in NumPy around a backend's forward.

It defines what generation does. A backend's compiled loop must give the same tokens.
"""

from collections.abc import Iterator

import numpy as np

from gptj.generation.cached_forward import CachedForward
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.logits_pipeline import LogitsPipeline
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.prompts import Ids
from gptj.generation.sampling import choose_tokens
from gptj.generation.stopping import Stopping


def decode(
    request: DecodeRequest, runner: CachedForward, recorder: OutputRecorder
) -> Iterator[Ids]:
    """Yield new tokens, (B, 1) each; finished sequences get the pad token."""
    plan, ids = request.plan, request.prompt.ids
    length = ids.shape[1]
    pipeline = LogitsPipeline(request)
    stopping = Stopping(request)
    finished = np.zeros(len(ids), bool)
    for step in range(plan.max_new_tokens):
        logits = runner.run(ids)[:, -1]
        scores = pipeline(ids, logits, step, finished=finished)
        drawn = np.where(finished, plan.pad_token_id, choose_tokens(scores, plan, step))
        scores = pipeline.final(scores)
        recorder.add(runner, logits, scores)
        ids = np.hstack((ids, drawn[:, None]))
        yield drawn[:, None]
        finished |= stopping.ended(ids, length, scores)
        if finished.all() or stopping.out_of_time():
            return
