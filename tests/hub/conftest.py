"""Fixtures of the tests that download: a hub with some repositories, on this machine."""

import pytest

from hub_server import BESIDE, SHARDS, SMALL, connect, serve, write, write_index


@pytest.fixture
def cache(tmp_path):
    """Where downloads go; empty."""
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path):
    """The folder of the revision `main`, for a test to fill."""
    return write(tmp_path / "main", [*SMALL, *BESIDE])


@pytest.fixture
def served(tmp_path, repository, cache, monkeypatch):
    """A hub with some repositories, which this process takes for the hub."""
    monkeypatch.chdir(tmp_path)
    other = write(tmp_path / "float16", [*SMALL, "model.safetensors"])
    repositories = {
        "org/name": {"main": repository, "float16": other},
        "org/private": {"main": other},
        "org/gated": {"main": other},
        "old": {"main": other},
    }
    tokens = {"private": {"org/private": "secret"}, "gated": {"org/gated": "secret"}}
    with serve(repositories, **tokens) as running:
        connect(monkeypatch, running, cache)
        yield running


@pytest.fixture
def whole(repository):
    """`main` with its weights in one file."""
    return write(repository, ["pytorch_model.bin"])


@pytest.fixture
def sharded(repository):
    """`main` with its weights in two files and an index."""
    return write_index(write(repository, SHARDS), SHARDS)
