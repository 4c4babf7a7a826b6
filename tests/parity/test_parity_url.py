"""`gptj parity --against URL`: an engine's log-probabilities, and the mistake named."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation.logits_pipeline import log_softmax
from gptj.parity.report import parity
from models import checkpoint_weights
from paths import TINY
from planted import port

pytestmark = pytest.mark.neutral


class Engine(HTTPServer):
    """An OpenAI-compatible engine that computes with `model`."""

    def __init__(self, model, echoes=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.echoes, self.asked = model, echoes, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"data": [{"id": "tiny-gptj"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        (ids,) = np.array(asked["prompt"])
        logits = log_softmax(self.server.model(ids[None])[0].astype(np.float64))
        found = [None, *logits[np.arange(len(ids) - 1), ids[1:]].tolist(), -0.5]
        kept = found if self.server.echoes else found[-1:]
        self.answer({"choices": [{"index": 0, "logprobs": {"token_logprobs": kept}}]})

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def engine():
    """Start engines, and stop them."""
    started = []

    def start(echoes=True, **mistakes):
        config, tensors = checkpoint_weights(TINY)
        weights = {name: tensor.read() for name, tensor in tensors.items()}
        server = Engine(port(config, weights, **mistakes), echoes)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_right_engine_passes_and_is_asked_by_its_model_s_name(engine):
    server = engine()
    report = parity(TINY, against=server.url)
    assert report.passed
    assert "only the log-probabilities" in str(report)
    assert {asked["model"] for asked in server.asked} == {"tiny-gptj"}
    assert all(asked["echo"] and asked["max_tokens"] == 1 for asked in server.asked)


@pytest.mark.parametrize(
    "name, mistakes",
    [
        ("rotary_half_split", {"halves": True}),
        ("head_bias_dropped", {"head_bias": False}),
    ],
)
def test_the_mistake_of_an_engine_is_named(engine, name, mistakes):
    report = parity(TINY, against=engine(**mistakes).url + "/completions")
    best = report.to_dict()["diagnosis"]["hypotheses"][0]
    assert best["name"] == name
    assert best["explained"] > 0.999


def test_an_engine_without_the_prompt_s_log_probabilities_is_refused(engine):
    with pytest.raises(ArgumentError, match="does not return the log-probabilities of the prompt"):
        parity(TINY, against=engine(echoes=False).url)


def test_an_engine_that_is_not_there_is_named():
    with pytest.raises(ArgumentError, match=r"127.0.0.1:1/v1/completions gave no answer"):
        parity(TINY, against="http://127.0.0.1:1/v1")
