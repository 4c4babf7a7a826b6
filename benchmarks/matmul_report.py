"""Timing and reports that the benchmarks of single matmuls share."""

import argparse
import platform
import time
from pathlib import Path
from statistics import median

from gptj.bench.table import table
from gptj.system.machine import describe

REPETITIONS = 5


def arguments(description):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path)
    return parser.parse_args()


def rate(run, count):
    """Return billions of weights per second of a function that reads `count` of them.

    It runs once before it is timed.
    """
    seconds = []
    for _ in range(REPETITIONS + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return count / median(seconds[1:]) / 1e9


def deliver(description, surroundings, columns, tokens, rows, path):
    """Print the rates, a column for each number of tokens, and write them into a file if asked.

    The description has three paragraphs: what it is, the command, and what the numbers mean.
    """
    machine, (title, command, meaning, *_) = describe(), description.split("\n\n")
    columns = (*columns, *("1 token" if n == 1 else f"{n} tokens" for n in tokens))
    text = (
        f"# {title}\n\n`{command.strip()}`, on {machine['cores']} cores of "
        f"{machine['processor']}{surroundings}, Python {platform.python_version()}.\n\n"
        f"{meaning.strip()}\n\n{table(columns, rows)}\n"
    )
    print(text)
    if path:
        path.write_text(text, encoding="utf-8")
