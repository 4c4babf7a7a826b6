"""``docs/tools.md`` keeps its word: its examples of PyTorch's tools run."""

import pytest

from tool_pages import examples, name_of, run_example

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("example", examples("tools"), ids=name_of)
def test_an_example_runs_and_prints(example, tmp_path):
    run_example(example, tmp_path)
