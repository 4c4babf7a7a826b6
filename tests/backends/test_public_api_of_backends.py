"""No public name, parameter or default of a backend changes unnoticed."""

import pytest

from public_api import RENEW, differences

pytestmark = pytest.mark.frameworks


def test_the_names_of_a_framework_are_as_recorded(framework):
    found = differences(framework.name)
    assert not found, "\n".join([*found, RENEW])
