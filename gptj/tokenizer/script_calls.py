"""What scripts for other libraries' tokenizers ask of one, besides encoding and decoding."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

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
    """

    is_fast: Final = True
    name_or_path: str = ""

    if TYPE_CHECKING:  # what the classes beside it have
        roles: dict[str, str | None]
        model_max_length: int
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
