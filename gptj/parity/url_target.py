"""An engine behind a URL: what ``/v1/completions`` says of prompts and writes after them."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gptj.diagnosis.computation import Inputs
from gptj.diagnosis.evidence import LOGITS
from gptj.errors import ArgumentError, brief
from gptj.generation.logits_pipeline import log_softmax
from gptj.model.config import GPTJConfig
from gptj.parity.target import Answer, Array, Target, drawn_ids

SCHEMES: Final = ("http://", "https://")
PATH: Final = "/completions"
TIMEOUT: Final = 600.0
"""Seconds to wait for an answer."""

KEY: Final = "GPTJ_API_KEY"
"""The environment variable with the engine's key, which no message or report holds."""

NOTE: Final = "only the log-probabilities of the prompt's own tokens, as an engine hands them out"


class UrlEngine:
    """An engine that speaks OpenAI's protocol for completions."""

    def __init__(self, base: str) -> None:
        """Take the URL before ``/completions``, and ask for the name of its model."""
        self.base, self.model = base, _model_of(base)

    def read(self, ids: Array) -> Answer:
        """Return what it says of the tokens of a prompt (T,) but the first.

        Raises:
            ArgumentError: for an engine that does not return them.
        """
        answer = self._answer(ids, 1, slice(1, len(ids)))
        if len(answer.log_probs) < len(ids) - 1:
            raise _no_echo(self.base)
        return answer

    def write(self, ids: Array, count: int) -> Answer:
        """Continue a prompt (T,) by at most `count` tokens, fewer where the text ends."""
        return self._answer(ids, count, slice(len(ids), len(ids) + count))

    def _answer(self, ids: Array, count: int, kept: slice) -> Answer:
        """Ask for a prompt with its continuation, and return a part of what is said of both."""
        request: dict[str, Any] = {
            "prompt": [ids.tolist()],
            "max_tokens": count,
            "temperature": 0,
            "logprobs": 1,
            "echo": True,
        }
        if self.model is not None:
            request["model"] = self.model
        answer = _ask(self.base + PATH, request)
        try:
            said = answer["choices"][0]["logprobs"]
            found = np.array(said["token_logprobs"][kept], np.float64)
            tops = said.get("top_logprobs")
            best = [max(top.values()) for top in tops[kept]] if tops else found
            tokens = [str(token) for token in said["tokens"][kept]]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise _no_echo(self.base) from error
        return Answer(tokens, found, np.array(best, np.float64))


def url_target(config: GPTJConfig, url: str) -> Target:
    """Ask an OpenAI-compatible engine for the log-probabilities of random prompts.

    The environment variable ``GPTJ_API_KEY`` has the engine's key, if it asks for one.

    Args:
        url: of ``/v1/completions``, or what precedes ``/completions``.

    Raises:
        ArgumentError: for an engine that cannot be reached, refuses, or does not return the
            log-probabilities of the prompt (``echo`` with ``logprobs``); for a key that is none.
    """
    _key()  # refused here, as an engine without a list of models is no error
    engine = UrlEngine(url.rstrip("/").removesuffix(PATH))
    ids = drawn_ids(config)
    found = np.zeros((*ids.shape, 1))  # at a token, that of the next one; nothing at the last
    for row, prompt in zip(found, ids, strict=True):
        row[:-1, 0] = engine.read(prompt).log_probs
    return Target(
        url,
        Inputs(ids),
        {LOGITS: found},
        view=next_tokens(ids),
        notes={"logits": NOTE},
        engine=engine,
    )


def next_tokens(ids: Array) -> Callable[[Array], Array]:
    """Return the view of logits that an engine gives: the next token's log-probability."""

    def view(logits: Array) -> Array:
        batch, length = logits.shape[:2]
        following = np.roll(ids, -1, axis=1)[:batch, :length, None]
        chosen = np.take_along_axis(log_softmax(logits), following, axis=-1)
        chosen[:, ids.shape[1] - 1 :] = 0.0
        return chosen

    return view


def _no_echo(base: str) -> ArgumentError:
    return ArgumentError(
        f"{base} does not return the log-probabilities of the prompt's tokens, for which a request "
        "with echo, logprobs and max_tokens 1 asks. Without them nothing can be compared: write a "
        "function, package.module:function, or capture the logits in a file."
    )


def _model_of(base: str) -> str | None:
    """Return the name of the engine's first model, None where it lists none."""
    try:
        return str(_ask(f"{base}/models")["data"][0]["id"])
    except (ArgumentError, KeyError, IndexError, TypeError):
        return None


def _ask(url: str, content: dict[str, Any] | None = None) -> Any:
    """Return the JSON that a GET, or a POST of JSON, is answered with."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    if key := _key():
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        said = said.replace(key, "***") if key else said  # some engines quote a key they refuse
        hint = f" Set {KEY} to its key." if error.code in (401, 403) else ""
        raise ArgumentError(f"{url} answered {error.code}: {brief(said)}.{hint}") from error
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{url} gave no answer that is JSON: {error}.") from error


def _key() -> str:
    """Return the engine's key, nothing if there is none."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ArgumentError(
            f"{KEY} holds characters that no header takes. Set it to the engine's key, which is "
            "printable ASCII on one line, or unset it."
        )
    return key
