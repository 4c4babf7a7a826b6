"""What scripts for other libraries' tokenizers ask of one, besides encoding and decoding."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tokenizers import AddedToken, Tokenizer

from gptj.errors import ArgumentError, UnsupportedFeature, choices, suggest

WITHOUT_EFFECT: Final = ("use_fast", "trust_remote_code")
"""Arguments of loading that other libraries need; accepted for the sake of old code."""

ELSEWHERE: Final = {
    "encode_plus": "Call the tokenizer itself: tokenizer(text, ...).",
    "batch_encode_plus": "Call the tokenizer itself: tokenizer(texts, ...).",
    "build_inputs_with_special_tokens": "GPT-J puts no tokens around a text.",
    "apply_chat_template": "GPT-J has no chat template: write the prompt as a text.",
    "train_new_from_iterator": "Train one with the package tokenizers, and wrap it: "
    "GPTJTokenizer(tokenizer).",
}
"""What is not here -> what to do instead."""


class ScriptCalls:
    """Answers to scripts; `GPTJTokenizer` inherits it.

    Attributes:
        is_fast: the work is done by the package tokenizers.
        name_or_path: what the tokenizer was loaded by; "" for a new one.
        chat_template: GPT-J has none.
        mask_token, sep_token, cls_token, and their ids: None, as in every language model like this.
        pad_token_type_id: what fills the padding of token types.
    """

    is_fast: Final = True
    name_or_path: str = ""
    chat_template: Final = None
    mask_token: Final = None
    mask_token_id: Final = None
    sep_token: Final = None
    sep_token_id: Final = None
    cls_token: Final = None
    cls_token_id: Final = None
    pad_token_type_id: Final = 0

    if TYPE_CHECKING:  # what the classes beside it have
        bpe: Tokenizer
        roles: dict[str, str | None]
        model_max_length: int
        all_special_ids: list[int]
    else:

        def __getattr__(self, name: str) -> Any:
            """Say what serves in the place of a method that is not here."""
            if name in ELSEWHERE:
                raise UnsupportedFeature(f"The tokenizer has no {name}(). {ELSEWHERE[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The tokens that have a role, by its name."""
        return {role: token for role, token in self.roles.items() if token is not None}

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The object of the package tokenizers that does the work."""
        return self.bpe

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens that were added to the vocabulary, by their ids."""
        return self.bpe.get_added_tokens_decoder()

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the tokens that were added to the vocabulary."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Return 1 for every special token of a text, or of two one after the other, else 0."""
        ids, special = [*token_ids_0, *(token_ids_1 or ())], set(self.all_special_ids)
        return [int(index in special) for index in ids]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens in the vocabulary's spelling."""
        text: str = self.bpe.decoder.decode(list(tokens))
        return text

    @property
    def max_len_single_sentence(self) -> int:
        """The most tokens of a text: none are put around it."""
        return self.model_max_length

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many tokens are put around a text, or two: none."""
        return 0


def refuse_unknown(options: Mapping[str, object], known: frozenset[str]) -> None:
    """Refuse options of loading that are not known.

    Raises:
        ArgumentError: with the nearest names.
    """
    unknown = sorted(options.keys() - known - {*WITHOUT_EFFECT})
    if unknown:
        hints = "".join(suggest(name, known) for name in unknown)
        raise ArgumentError(
            f"Loading a tokenizer has no argument {choices(unknown)}.{hints} Accepted are "
            f"{choices(sorted(known))}."
        )
