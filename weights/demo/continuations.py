"""Test with the standard `tokenize` whether the model continues unseen code as valid Python.

A prompt ends with the head of a function: signature and docstring. It starts at the function or its
class, as a file might. The functions of the held-out files are sorted by a hash of path and line,
and the first with short enough prompts are chosen, at most `PER_FILE` of a file. The continuation
is greedy. Its last line is nearly always incomplete, so the test drops it; the result with it is
reported too.
"""

import ast
import hashlib
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gptj import GPTJForCausalLM, GPTJTokenizer

PROMPTS: Final = 20
PER_FILE: Final = 2
LONGEST: Final = 256  # tokens of a prompt
NEW_TOKENS: Final = 64


@dataclass(frozen=True)
class Continuation:
    """The model's continuation of a prompt, and whether it passes."""

    path: str
    line: int
    prompt: str
    continuation: str
    passes: bool  # without the last, incomplete line
    passes_uncut: bool


def choose_prompts(
    files: Mapping[str, bytes], tokenizer: GPTJTokenizer
) -> Iterator[tuple[str, int, str]]:
    """Yield path, line and text of every prompt."""
    heads = [(path, *head) for path, content in files.items() for head in _heads(content.decode())]
    taken: Counter[str] = Counter()
    for path, line, prompt in sorted(heads, key=_hash):
        fits = len(tokenizer(prompt)["input_ids"]) <= LONGEST
        if taken[path] < PER_FILE and taken.total() < PROMPTS and fits:
            taken[path] += 1
            yield path, line, prompt


def write_on(
    model: GPTJForCausalLM, tokenizer: GPTJTokenizer, path: str, line: int, prompt: str
) -> Continuation:
    """Continue a prompt greedily and test the result."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0, ids.shape[1] :]
    text = tokenizer.decode(output, skip_special_tokens=True)
    ended = model.config.eos_token_id in output.tolist()
    kept = text if ended else text[: text.rfind("\n") + 1]
    passes = bool(kept.strip()) and is_python(prompt + kept)
    return Continuation(path, line, prompt, text, passes, is_python(prompt + text))


def is_python(text: str) -> bool:
    """Return whether `tokenize` reads the whole text without an error token."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    return all(token.type != tokenize.ERRORTOKEN for token in tokens)


def _heads(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of every function with a body, and the text from its class to its head."""
    lines = text.splitlines(keepends=True)
    for statement in ast.parse(text).body:
        decorators = getattr(statement, "decorator_list", [])
        start = min((d.lineno for d in decorators), default=statement.lineno)
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                end = _head_end(node)
                if end is not None:
                    yield node.lineno, "".join(lines[start - 1 : end])


def _head_end(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int | None:
    """Return the last line of signature and docstring, or None if no body follows on new lines."""
    body = node.body
    end = body[0].lineno - 1
    if ast.get_docstring(node, clean=False) is not None:
        end, body = body[0].end_lineno or end, body[1:]
    return end if body and node.lineno <= end < body[0].lineno else None


def _hash(head: tuple[str, int, str]) -> str:
    return hashlib.sha256(f"{head[0]}:{head[1]}".encode()).hexdigest()
