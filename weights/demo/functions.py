"""The second stage's text: every function of a training file by itself, as people prompt a model.

A function is taken with its decorators, moved to the left margin, and without its docstring: what
follows the head is code. Rows begin where a function does, so that the first tokens of a context
are the head of a function, as they are in a short prompt.
"""

import ast
import textwrap
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from batches import BATCH_TOKENS, LONG

SHARE: Final = 0.5
"""Share of the second stage's rows that are functions; the others are files, as before."""

FEWEST_LINES: Final = 3
"""Lines of the shortest function."""


def functions(text: str) -> Iterator[bytes]:
    """Yield the functions of a file, at the left margin and without docstrings."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            kept = lines[first - 1 : node.end_lineno]
            if ast.get_docstring(node, clean=False) is not None:
                start, end = node.body[0].lineno, node.body[0].end_lineno or 0
                kept = lines[first - 1 : start - 1] + lines[end : node.end_lineno]
            source = textwrap.dedent("".join(kept))
            # a string with lines at the margin keeps its function where it is
            if len(kept) >= FEWEST_LINES and not source[0].isspace():
                yield source.encode()


def mixed_rows(
    files: Tensor, heads: Tensor, starts: npt.NDArray[np.int64], step: int, seed: int
) -> Tensor:
    """Return a step's rows of the second stage, (rows, LONG + 1), drawn anew for every step.

    Args:
        files: the tokens of the training files.
        heads: the tokens of their functions.
        starts: where in `heads` each function begins.
    """
    generator = np.random.default_rng((seed, step))
    rows = BATCH_TOKENS // LONG
    of_functions = round(SHARE * rows)
    whole = starts[starts < len(heads) - LONG - 1]
    anywhere = generator.integers(len(files) - LONG - 1, size=rows - of_functions)
    return torch.cat(
        (
            _cut(files, torch.from_numpy(anywhere)),
            _cut(heads, torch.from_numpy(generator.choice(whole, of_functions))),
        )
    )


def _cut(tokens: Tensor, starts: Tensor) -> Tensor:
    return tokens[starts[:, None] + torch.arange(LONG + 1)]
