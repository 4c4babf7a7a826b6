"""The second stage's text: single functions and classes, like users' prompts.

Each comes from a training file with its decorators, dedented and without docstrings, so that code
follows a head. Sequences begin at the start of a definition: as in a short prompt, the first tokens
of a context are the head of a function or a class.
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
"""Share of the second stage's sequences that are definitions; the others are files, as before."""

FEWEST_LINES: Final = 3
"""Lines of the shortest definition."""

DEFINITION: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def definitions(text: str) -> Iterator[bytes]:
    """Yield the functions and classes of a file, dedented and without docstrings."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DEFINITION):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            dropped = _docstring_lines(node)
            numbers = range(first, (node.end_lineno or first) + 1)
            kept = [lines[number - 1] for number in numbers if number not in dropped]
            source = textwrap.dedent("".join(kept))
            # a string with lines at the margin prevents dedenting
            if len(kept) >= FEWEST_LINES and not source[0].isspace():
                yield source.encode()


def _docstring_lines(node: ast.AST) -> set[int]:
    """Return the lines of all docstrings in a definition that have code after them."""
    return {
        number
        for inner in ast.walk(node)
        if isinstance(inner, DEFINITION) and len(inner.body) > 1
        if ast.get_docstring(inner, clean=False) is not None
        for number in range(inner.body[0].lineno, (inner.body[0].end_lineno or 0) + 1)
    }


def mixed_rows(
    files: Tensor, heads: Tensor, starts: npt.NDArray[np.int64], step: int, seed: int
) -> Tensor:
    """Return a step's sequences of the second stage, (sequences, LONG + 1), drawn for each step.

    Args:
        files: the tokens of the training files.
        heads: the tokens of their functions and classes.
        starts: the index in `heads` at which each begins.
    """
    generator = np.random.default_rng((seed, step))
    rows = BATCH_TOKENS // LONG
    defined = round(SHARE * rows)
    whole = starts[starts < len(heads) - LONG - 1]
    anywhere = generator.integers(len(files) - LONG - 1, size=rows - defined)
    return torch.cat(
        (
            _cut(files, torch.from_numpy(anywhere)),
            _cut(heads, torch.from_numpy(generator.choice(whole, defined))),
        )
    )


def _cut(tokens: Tensor, starts: Tensor) -> Tensor:
    return tokens[starts[:, None] + torch.arange(LONG + 1)]
