"""Where the files of the repository lie that tests read."""

from pathlib import Path

TESTS = Path(__file__).parent.parent
HELPERS = TESTS / "helpers"
GOLDEN = TESTS / "golden"
ROOT = TESTS.parent
SOURCE = ROOT / "gptj"
TINY = ROOT / "weights" / "tiny"
