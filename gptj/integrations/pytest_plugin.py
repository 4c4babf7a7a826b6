"""Parity in somebody's own tests: the fixture `gptj_parity`, and the option ``--gptj-parity``.

pytest finds this module by its entry point. Nothing of gptj is imported before the fixture is used.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gptj.parity.against import AgainstReport


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says which model the fixture compares."""
    parser.getgroup("gptj").addoption(
        "--gptj-parity",
        metavar="FOLDER",
        help="checkpoint that the fixture gptj_parity compares, where a test names none",
    )


@pytest.fixture
def gptj_parity(request: pytest.FixtureRequest) -> "Callable[..., AgainstReport]":
    """Compare a checkpoint with another system, and fail with the diagnosis if something is off.

    Call it as ``gptj_parity(model, against=...)``, where `model` is a folder, a preset or a hub id,
    that of ``--gptj-parity`` if None, and `against` and `dtype` are those of ``gptj.parity``.
    """

    def check(model: Any = None, *, against: Any, dtype: str | None = None) -> "AgainstReport":
        from gptj.parity.against import compare_against

        chosen = model if model is not None else request.config.getoption("--gptj-parity")
        if chosen is None:
            pytest.fail("gptj_parity needs a model: name one, or say --gptj-parity FOLDER.", False)
        report = compare_against(chosen, against, dtype=dtype)
        if not report.passed:
            pytest.fail(str(report), pytrace=False)
        return report

    return check
