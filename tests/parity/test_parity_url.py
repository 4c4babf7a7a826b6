"""`gptj parity --against URL`: an engine's log-probabilities, and the mistake named."""

import json
import shutil
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
    """An OpenAI-compatible engine that computes prompts with `model`, new tokens with `decoder`."""

    def __init__(self, model, decoder=None, echoes=True, key=None, spells=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.decoder = model, decoder or model
        self.echoes, self.key, self.spells, self.asked = echoes, key, spells, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"data": [{"id": "tiny-gptj"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        given = self.headers["Authorization"]
        if self.server.key is not None and given != f"Bearer {self.server.key}":
            return self.answer({"error": f"wrong key: {given}"}, 401)
        ids = list(asked["prompt"][0])
        logits = self.log_probs(self.server.model, ids)
        for _ in range(asked["max_tokens"]):
            ids.append(int(logits[-1].argmax()))
            logits = np.vstack((logits, self.log_probs(self.server.decoder, ids)[-1:]))
        found = [None, *logits[np.arange(len(ids) - 1), ids[1:]].tolist()]
        tops = [None, *({"best": top} for top in logits[:-1].max(axis=-1).tolist())]
        start = 0 if self.server.echoes else len(asked["prompt"][0])
        said = {"token_logprobs": found[start:], "top_logprobs": tops[start:]}
        if self.server.spells:
            said["tokens"] = [f"<{token}>" for token in ids[start:]]
        self.answer({"choices": [{"index": 0, "logprobs": said}]})

    @staticmethod
    def log_probs(model, ids):
        return log_softmax(model(np.array([ids]))[0].astype(np.float64))

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def engine(monkeypatch):
    """Start engines, and stop them."""
    monkeypatch.delenv("GPTJ_API_KEY", raising=False)
    started = []

    def start(decoding=None, echoes=True, key=None, spells=True, **mistakes):
        config, tensors = checkpoint_weights(TINY)
        weights = {name: tensor.read() for name, tensor in tensors.items()}
        decoder = None if decoding is None else port(config, weights, **decoding)
        server = Engine(port(config, weights, **mistakes), decoder, echoes, key, spells)
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
    assert all(asked["echo"] and asked["temperature"] == 0 for asked in server.asked)
    numbers = report.to_dict()
    assert numbers["text"] == {"equal": 2, "of": 2, "first": None}
    assert all(numbers[phase]["error"] < 1e-6 for phase in ("prefill", "decode", "apart"))


@pytest.mark.parametrize("decoding", [{"ahead": 1}, {"scale": 1.001}, {"epsilon": 1e-3}], ids=str)
def test_decoding_that_is_not_the_engine_s_own_prefill_is_named(engine, decoding, tmp_path):
    report = parity(TINY, against=engine(decoding=decoding).url)
    assert not report.passed
    numbers = report.to_dict()
    assert numbers["diagnosis"]["hypotheses"] == []
    assert "Look at its key-value cache" in str(report)
    report.save_html(tmp_path / "report.html")
    assert "Look at its key-value cache" in (tmp_path / "report.html").read_text()
    assert numbers["prefill"]["error"] < 1e-6 < numbers["apart"]["error"]


def test_another_text_is_shown_with_the_oracle_s_margin(engine):
    report = parity(TINY, against=engine(halves=True).url)
    first = report.to_dict()["text"]["first"]
    assert first["found_text"].startswith("<") and first["margin"] > 0
    assert "above the next best in the oracle" in str(report)


def test_a_context_shorter_than_the_text_is_no_obstacle(engine, tmp_path):
    shutil.copytree(TINY, tmp_path / "short")
    config = json.loads((TINY / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(config | {"n_positions": 8}))
    report = parity(tmp_path / "short", against=engine().url)
    assert report.passed and report.to_dict()["text"]["equal"] == 2


def test_an_engine_that_spells_no_tokens_is_refused(engine):
    with pytest.raises(ArgumentError, match="does not return the log-probabilities"):
        parity(TINY, against=engine(spells=False).url)


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


def test_a_key_is_sent_and_stays_out_of_the_report(engine, monkeypatch):
    monkeypatch.setenv("GPTJ_API_KEY", "secret-7\n")
    report = parity(TINY, against=engine(key="secret-7").url)
    assert report.passed
    assert "secret-7" not in json.dumps(report.to_dict()) + str(report)


def test_an_engine_that_wants_a_key_says_so(engine):
    with pytest.raises(ArgumentError, match=r"answered 401.* Set GPTJ_API_KEY to its key"):
        parity(TINY, against=engine(key="secret-7").url)


def test_a_key_that_an_engine_quotes_is_not_printed(engine, monkeypatch):
    monkeypatch.setenv("GPTJ_API_KEY", "mistaken-8")
    with pytest.raises(ArgumentError, match=r"wrong key: Bearer \*\*\*") as caught:
        parity(TINY, against=engine(key="secret-7").url)
    assert "mistaken-8" not in str(caught.value)


def test_a_key_on_two_lines_is_refused_without_being_printed(monkeypatch):
    monkeypatch.setenv("GPTJ_API_KEY", "one\ntwo")
    with pytest.raises(ArgumentError, match="GPTJ_API_KEY holds characters that no header") as it:
        parity(TINY, against="http://127.0.0.1:1/v1")
    assert "two" not in str(it.value)
