"""Cases of a test that run with the slow ones, where others tell nearly as much."""

import pytest


def rarely(*case):
    """Return a case of `pytest.mark.parametrize` for the slow tests."""
    return pytest.param(*case, marks=pytest.mark.slow)


def often(cases, chosen):
    """Return all cases, of which those not `chosen` are for the slow tests."""
    return [pytest.param(*case) if case in chosen else rarely(*case) for case in cases]
