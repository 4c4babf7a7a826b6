"""What the tests of the commands share."""

from functools import cache

import pytest

from gptj import api
from models import load, short_demo

load_once = cache(api.load)


@pytest.fixture
def models_are_loaded_once(monkeypatch):
    """Give a command the model of an earlier test, with all that is compiled for it.

    ``test_cli`` runs commands in processes of their own, which load for themselves.
    """
    monkeypatch.setattr(api, "load", loaded)


def loaded(name, *, backend, **options):
    """Return a model like ``gptj.load``; the demo is short."""
    given = {key: value for key, value in options.items() if value not in (None, False, "auto")}
    if name == "demo" and not given:
        return load(backend, short_demo())
    return load_once(name, backend=backend, **options)
