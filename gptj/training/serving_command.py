"""The shell command that uses the result of a training."""

import shlex
from pathlib import Path


def serving_command(output: Path, head: str) -> str:
    """Return the command that uses a model's folder."""
    folder = shlex.quote(str(output))
    if head == "causal_lm":
        return f'gptj generate --model {folder} "Once upon a time"'
    if head == "question_answering":
        return f'gptj predict {folder} --question "Who wrote it?" "It was written by Ada."'
    return f'gptj predict {folder} "a text"'
