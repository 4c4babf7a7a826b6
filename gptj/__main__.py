"""``python -m gptj``, and the command ``gptj``."""

import sys

from gptj.system.exit_codes import INTERRUPTED
from gptj.system.ignored_interrupts import repeating_ignored_interrupts


def main() -> None:
    """Run the command line; Ctrl-C is one line even while its modules are imported."""
    try:
        with repeating_ignored_interrupts():
            from gptj.cli import main as commands

            commands(prog_name="gptj")
    except KeyboardInterrupt:
        sys.stderr.write("gptj: interrupted.\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
