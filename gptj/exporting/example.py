"""The lines about text that the programs of README.md have in common."""

import re
from typing import Final

from gptj.exporting.source import Source

PROMPT: Final = "def fibonacci(n):"


def imports(source: Source) -> str:
    """Return the line that imports a tokenizer, if there is one; programs import it last."""
    return "from tokenizers import Tokenizer\n" if source.has_tokenizer else ""


def ids(source: Source) -> str:
    """Return the lines that set `ids` to a list of ids, and `tokenizer`, if there is one."""
    if not source.has_tokenizer:
        return "ids = [1, 2, 3]  # of your tokenizer\n"
    return (
        'tokenizer = Tokenizer.from_file("tokenizer.json")\n'
        f'ids = tokenizer.encode("{PROMPT}").ids\n'
    )


def shown(source: Source, new: str) -> str:
    """Return the line that prints the text of a list of ids, or these themselves."""
    return f"print(tokenizer.decode({new}))\n" if source.has_tokenizer else f"print({new})\n"


def filled(page: str, source: Source) -> str:
    """Return a page with these lines where it has ``<imports>``, ``<ids>`` and ``<shown LIST>``."""
    page = page.replace("<imports>\n", imports(source)).replace("<ids>\n", ids(source))
    return re.sub(r"<shown (.*)>\n", lambda found: shown(source, found[1]), page)
