"""The demo model that ships in the package keeps what its model card says."""

import gzip
import hashlib
import io
import json
import math
import sysconfig
import tokenize
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gptj.model.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.reference.forward import forward
from gptj.tokenizer import GPTJTokenizer
from paths import ROOT, TESTS

pytestmark = pytest.mark.neutral

FOLDER = Path(str(files("gptj"))) / "data" / "demo"
CARD = ROOT / "weights" / "demo"
SAMPLE = TESTS / "data" / "demo_sample.txt"

LIMIT = 16_000_000  # bytes
RECOMPUTED = 4
"""Held-out files, the shortest, that are scored again: more would take minutes in NumPy."""

STRIDE = 256
"""Tokens that a window scores, as in weights/demo/scoring.py."""

NATS_RTOL = 1e-3
"""Recorded in float32, recomputed in float64: a wrong weight would change far more."""


@cache
def weights() -> dict[str, Any]:
    return load_file(FOLDER / "model.safetensors")


@cache
def config() -> GPTJConfig:
    return GPTJConfig.from_json_file(FOLDER / "config.json")


@cache
def metrics() -> dict[str, Any]:
    return json.loads((CARD / "metrics.json").read_text(encoding="utf-8"))


def test_the_folder_fits_in_sixteen_megabytes_and_holds_no_tokenizer() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes.keys() == {"config.json", "generation_config.json", "model.safetensors"}
    assert sum(sizes.values()) <= LIMIT
    assert sum(sizes.values()) == metrics()["size_bytes"]


def test_the_file_is_half_precision_and_used_in_single_precision() -> None:
    assert {str(tensor.dtype) for tensor in weights().values()} == {"float16"}
    assert config().dtype == "float32"
    assert all(np.isfinite(tensor).all() for tensor in weights().values())


def test_the_weights_are_those_of_a_tied_gptj_with_the_full_vocabulary() -> None:
    assert config().tie_word_embeddings
    assert config().vocab_size == 50_400
    table = parameter_table(config())
    assert {name: tensor.shape for name, tensor in weights().items()} == {
        name: parameter.shape for name, parameter in table.items()
    }


def test_it_predicts_code_better_than_gzip() -> None:
    text = SAMPLE.read_bytes()
    assert nats(text) / math.log(2) / len(text) < gzip_bits_per_byte(text)


def test_the_recorded_held_out_loss_is_that_of_the_shipped_weights() -> None:
    shortest = sorted(metrics()["after"]["files"], key=lambda file: file["bytes"])[:RECOMPUTED]
    texts = [library_file(file["path"]) for file in shortest]
    recomputed = [nats(text) for text in texts]
    np.testing.assert_allclose(recomputed, [file["nats"] for file in shortest], rtol=NATS_RTOL)
    whole = b"".join(texts)
    assert sum(recomputed) / math.log(2) / len(whole) < gzip_bits_per_byte(whole)


def test_the_recorded_held_out_loss_is_below_gzip() -> None:
    recorded = metrics()["after"]
    held_out = recorded["files"]
    bits = sum(file["nats"] for file in held_out) / math.log(2)
    assert recorded["bits_per_byte"] == pytest.approx(bits / sum(f["bytes"] for f in held_out))
    assert recorded["bits_per_byte"] < metrics()["gzip_bits_per_byte"]


def test_no_held_out_file_is_a_training_file() -> None:
    manifest = json.loads((CARD / "manifest.json").read_text(encoding="utf-8"))["files"]
    held_out = {file["path"] for file in metrics()["after"]["files"]}
    assert held_out == {file["path"] for file in manifest if file["held_out"]}
    trained = {file["sha256"] for file in manifest if not file["held_out"]}
    assert not trained & {file["sha256"] for file in manifest if file["held_out"]}


def test_at_least_fifteen_of_twenty_continuations_are_python() -> None:
    continuations = metrics()["continuations"]
    assert len({(c["path"], c["line"]) for c in continuations}) == 20
    passing = [c for c in continuations if c["passes"]]
    assert len(passing) >= 15
    for found in passing:
        text = found["prompt"] + found["continuation"]
        assert is_python(text) or is_python(text[: text.rfind("\n") + 1])


def test_the_model_card_states_the_measured_numbers() -> None:
    text = (CARD / "README.md").read_text(encoding="utf-8")
    for when in ("before", "after"):
        for unit in ("bits_per_byte", "nats_per_token"):
            assert f"{metrics()[when][unit]:.3f}" in text
    assert f"{metrics()['gzip_bits_per_byte']:.3f}" in text
    assert f"{metrics()['size_bytes']:,} bytes" in text
    assert f"**{sum(c['passes'] for c in metrics()['continuations'])}** pass" in text
    assert "(loss.png)" in text
    assert (CARD / "loss.png").stat().st_size > 0


def library_file(path: str) -> bytes:
    """Return a file of this Python's standard library, if it is the one that was held out."""
    manifest = json.loads((CARD / "manifest.json").read_text(encoding="utf-8"))
    (expected,) = (file["sha256"] for file in manifest["files"] if file["path"] == path)
    found = Path(sysconfig.get_path("stdlib")) / path
    if not found.is_file() or hashlib.sha256(found.read_bytes()).hexdigest() != expected:
        pytest.skip(f"the numbers are for the standard library of Python {manifest['python']}")
    return found.read_bytes()


def nats(text: bytes) -> float:
    """Return the loss of all tokens of a text together, by the oracle, window by window."""
    tokenizer = GPTJTokenizer()
    ids = np.array([tokenizer.eos_token_id, *tokenizer(text.decode())["input_ids"]])
    context, scored, total = config().n_positions, 1, 0.0
    while scored < len(ids):
        end = min(len(ids), scored + (STRIDE if scored > 1 else context))
        window = ids[max(0, end - 1 - context) : end]
        logits = forward(config(), weights(), input_ids=window[None, :-1]).logits[0]
        logits = logits[scored - end :]
        chosen = logits[np.arange(len(logits)), ids[scored:end]]
        total += float((np.log(np.exp(logits).sum(axis=-1)) - chosen).sum())
        scored = end
    return total


def gzip_bits_per_byte(text: bytes) -> float:
    return 8 * len(gzip.compress(text, 9)) / len(text)


def is_python(text: str) -> bool:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    return all(token.type != tokenize.ERRORTOKEN for token in tokens)
