"""No public name, parameter or default changes unnoticed; ``public_api.json`` holds them."""

import pytest

import gptj
from public_api import RENEW, differences, recorded

pytestmark = pytest.mark.neutral


def test_the_names_that_need_no_framework_are_as_recorded():
    found = differences("neutral")
    assert not found, "\n".join([*found, RENEW])


def test_every_public_name_is_recorded():
    known = {path for section in ("neutral", "torch", "tf", "flax") for path in recorded(section)}
    assert {f"gptj.{name}" for name in gptj.PUBLIC} == {p for p in known if p.count(".") == 1}


def test_the_package_lists_its_public_names():
    assert set(dir(gptj)) == {*gptj.PUBLIC, "__version__"}
