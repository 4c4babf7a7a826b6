"""Fixtures of the tests of the published examples: their checkpoints, and no network."""

import socket

import huggingface_hub
import pytest
from huggingface_hub import constants

import gptj
from published import GPTJ_6B, fill


@pytest.fixture(scope="session")
def published_cache(tmp_path_factory):
    """A cache with every name that the examples use; made once, and not to be written to."""
    cache = tmp_path_factory.mktemp("published")
    fill(cache)
    return cache


@pytest.fixture
def published(published_cache, tmp_path, monkeypatch):
    """That cache, where huggingface_hub looks for its own; a request to the network fails."""
    monkeypatch.chdir(tmp_path)  # one of the names is also a folder of this repository
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(published_cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if hasattr(huggingface_hub, "configure_http_backend"):
        huggingface_hub.configure_http_backend()  # before release 1 a session stays online
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return published_cache


@pytest.fixture(scope="session")
def tokenizer():
    """The 6B's tokenizer, which no test changes."""
    return gptj.AutoTokenizer.from_pretrained(GPTJ_6B)


def refuse(*_):
    """Stand in for a connection."""
    raise AssertionError("A test of the published examples asked for a network.")
