"""An engine behind a URL: the log-probabilities that ``/v1/completions`` gives to a prompt."""

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
from gptj.parity.target import Array, Target, drawn_ids

SCHEMES: Final = ("http://", "https://")
PATH: Final = "/completions"
TIMEOUT: Final = 600.0
"""Seconds to wait for an answer."""

KEY: Final = "GPTJ_API_KEY"
"""The environment variable with the engine's key, which no message or report holds."""

NOTE: Final = "only the log-probabilities of the prompt's own tokens, as an engine hands them out"


def url_target(config: GPTJConfig, url: str) -> Target:
    """Ask an OpenAI-compatible engine for the log-probabilities of random prompts.

    The environment variable ``GPTJ_API_KEY`` has the engine's key, if it asks for one.

    Args:
        url: of ``/v1/completions``, or what precedes ``/completions``.

    Raises:
        ArgumentError: for an engine that cannot be reached, refuses, or does not return the
            log-probabilities of the prompt (``echo`` with ``logprobs``); for a key that is none.
    """
    _key()
    base = url.rstrip("/").removesuffix(PATH)
    model = _model_of(base)
    ids = drawn_ids(config)
    found = np.zeros((*ids.shape, 1))  # at a token, that of the next one; nothing at the last
    for row, prompt in zip(found, ids, strict=True):
        row[:-1, 0] = _prompt_log_probs(base, model, prompt)
    return Target(url, Inputs(ids), {LOGITS: found}, view=next_tokens(ids), notes={"logits": NOTE})


def next_tokens(ids: Array) -> Callable[[Array], Array]:
    """Return the view of logits that an engine gives: the next token's log-probability."""

    def view(logits: Array) -> Array:
        batch, length = logits.shape[:2]
        following = np.roll(ids, -1, axis=1)[:batch, :length, None]
        chosen = np.take_along_axis(log_softmax(logits), following, axis=-1)
        chosen[:, ids.shape[1] - 1 :] = 0.0
        return chosen

    return view


def _prompt_log_probs(base: str, model: str | None, prompt: Array) -> Array:
    """Return the log-probability of every token of a prompt but the first, (T - 1,)."""
    request: dict[str, Any] = {
        "prompt": [prompt.tolist()],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
        "echo": True,
    }
    if model is not None:
        request["model"] = model
    answer = _ask(base + PATH, request)
    try:
        given = answer["choices"][0]["logprobs"]["token_logprobs"][1 : len(prompt)]
        found = np.array(given, np.float64)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _no_echo(base) from error
    if len(found) < len(prompt) - 1:
        raise _no_echo(base)
    return found


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
