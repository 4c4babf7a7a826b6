"""The tokenizer of a ggml file, which has the tokens but not the merges that made them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from gptj.checkpoint.folder import ggml_files
from gptj.checkpoint.ggml_file import read_vocabulary
from gptj.checkpoint.ggml_vocabulary import token_bytes
from gptj.errors import TokenizerError
from gptj.spec.vocabulary import GPT2_VOCAB_SIZE
from gptj.tokenizer.files import built_in_tokenizer


def ggml_tokenizer(place: Path) -> Tokenizer | None:
    """Return GPT-J's tokenizer for a ggml file of its tokens, or for a folder of such files.

    Returns:
        None for other weights.

    Raises:
        TokenizerError: for a file of other tokens.
    """
    vocabularies = {path: read_vocabulary(path) for path in ggml_files(place)}
    for path, tokens in vocabularies.items():
        if not _is_own(tokens):
            raise TokenizerError(
                f"{path} holds {len(tokens)} tokens other than GPT-J's, and no merges, which a "
                "tokenizer needs. Put the model's own tokenizer.json beside it."
            )
    sizes = [len(tokens) for tokens in vocabularies.values()]
    return built_in_tokenizer(max(sizes)) if sizes else None


def has_other_tokens(place: Path) -> bool:
    """Return whether a folder or a file is ggml's, of other tokens than GPT-J's."""
    return not all(_is_own(read_vocabulary(path)) for path in ggml_files(place))


def _is_own(tokens: Sequence[bytes]) -> bool:
    """Return whether tokens are GPT-J's, of which the last extra ones may be lacking."""
    return len(tokens) >= GPT2_VOCAB_SIZE and [*tokens] == _own_tokens()[: len(tokens)]


@cache
def _own_tokens() -> list[bytes]:
    """Return the bytes of GPT-J's tokens, in order of ids."""
    tokens = token_bytes(built_in_tokenizer().get_vocab())
    return [tokens[index] for index in sorted(tokens)]
