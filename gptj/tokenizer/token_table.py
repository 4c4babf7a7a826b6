"""The tokens of a vocabulary, the roles of special ones, and the way back to text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, overload

from tokenizers import AddedToken, Tokenizer

from gptj.errors import TokenizerError, TokenOutOfRange
from gptj.spec.types import Tensor, TensorLike
from gptj.spec.vocabulary import EOS_TOKEN
from gptj.tokenizer.encoding import as_list, id_sequence, look_up

ROLES: Final = ("bos_token", "eos_token", "unk_token", "pad_token")
"""The names of special tokens."""

_ID_LIMIT: Final = 2**32
"""The ids of the `tokenizers` package are below this."""

_SPACED: Final = (" .", " ?", " !", " ,", " n't", " 'm", " 's", " 've", " 're")
"""`clean_up_tokenization_spaces` joins these to the word before them."""


class RoleToken:
    """A named special token, such as ``pad_token``; it may be set to any token, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Use the attribute's name as the role."""
        self.role = name

    def __get__(self, table: "TokenTable", owner: type | None = None) -> str | None:
        """Return the token."""
        return table.roles[self.role]

    def __set__(self, table: "TokenTable", token: str | None) -> None:
        """Give the role to a token of the vocabulary."""
        if token is not None and table.bpe.token_to_id(token) is None:
            raise TokenizerError(
                f"{self.role}={token!r} is not in the vocabulary: choose one that is, or add it by "
                f"add_special_tokens({{{self.role!r}: {token!r}}}) and resize the embedding."
            )
        table.roles[self.role] = token


class RoleId:
    """The id of a named special token, such as ``pad_token_id``; it may be set."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Derive the role from the attribute's name."""
        self.role = name.removesuffix("_id")

    def __get__(self, table: "TokenTable", owner: type | None = None) -> int | None:
        """Return the id."""
        token = table.roles[self.role]
        return None if token is None else table.bpe.token_to_id(token)

    def __set__(self, table: "TokenTable", index: int | None) -> None:
        """Give the role to the token with the id `index`."""
        token = None if index is None else table.convert_ids_to_tokens(index)
        setattr(table, self.role, token)


class TokenTable:
    """The tokens of `bpe` and the roles of special tokens."""

    bos_token = RoleToken()
    eos_token = RoleToken()
    unk_token = RoleToken()
    pad_token = RoleToken()
    bos_token_id = RoleId()
    eos_token_id = RoleId()
    unk_token_id = RoleId()
    pad_token_id = RoleId()

    def __init__(self, bpe: Tokenizer, roles: Mapping[str, str | None]) -> None:
        """Fill missing roles, and make every token with a role a special token.

        A missing role goes to ``<|endoftext|>`` if the vocabulary has it, the pad token's to the
        end-of-text token. A given token that the vocabulary lacks is added to it.
        """
        self.bpe = bpe
        end = EOS_TOKEN if bpe.token_to_id(EOS_TOKEN) is not None else None
        self.roles = {role: roles.get(role) or end for role in ROLES}
        self.roles["pad_token"] = roles.get("pad_token") or self.roles["eos_token"]
        self.add_tokens([token for token in self.roles.values() if token], special_tokens=True)

    def decode(
        self,
        token_ids: TensorLike,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """Return the text of one id or one sequence of ids: a list, an array or any tensor.

        Bytes that are not UTF-8 become U+FFFD. The extra tokens are not special and stay.

        Raises:
            TokenOutOfRange: for ids that are not in the vocabulary.
        """
        text = self.bpe.decode(
            self._known_ids(token_ids, skip_special_tokens), skip_special_tokens=False
        )
        if clean_up_tokenization_spaces:
            for spaced in _SPACED:
                text = text.replace(spaced, spaced.lstrip())
        return text

    def batch_decode(
        self,
        sequences: TensorLike,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[str]:
        """Return the text of every sequence of ids."""
        return [
            self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces)
            for ids in as_list(sequences)
        ]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int] | None:
        """Return the id of a token, or of each; unknown tokens get that of `unk_token`."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        index = self.bpe.token_to_id(tokens)
        return self.unk_token_id if index is None else index

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(
        self, ids: Sequence[int] | Tensor, skip_special_tokens: bool = False
    ) -> list[str]: ...
    def convert_ids_to_tokens(
        self, ids: TensorLike, skip_special_tokens: bool = False
    ) -> str | list[str]:
        """Return the token of an id, or of each."""
        tokens: list[Any] = [
            self.bpe.id_to_token(index) for index in self._known_ids(ids, skip_special_tokens)
        ]
        return tokens[0] if isinstance(as_list(ids), int) and tokens else tokens

    def add_tokens(self, tokens: str | Sequence[str], special_tokens: bool = False) -> int:
        """Add tokens and return the number of new ones; then resize the model's embedding.

        A token that was added earlier keeps its flags, except that it can become special.
        """
        before = len(self)
        earlier = self.bpe.get_added_tokens_decoder().values()
        settled = {token.content for token in earlier if token.special or not special_tokens}
        names = [tokens] if isinstance(tokens, str) else tokens
        self.bpe.add_tokens(
            [
                AddedToken(name, special=special_tokens, normalized=True)
                for name in names
                if name not in settled
            ]
        )
        return len(self) - before

    def add_special_tokens(self, tokens: Mapping[str, str]) -> int:
        """Give roles such as ``pad_token`` to tokens, add new ones, and return their number."""
        for role in tokens:
            look_up("the special token", role, ROLES)
        added = self.add_tokens(list(tokens.values()), special_tokens=True)
        self.roles |= tokens
        return added

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens with a role, then the other special ones, without duplicates."""
        added = self.bpe.get_added_tokens_decoder().values()
        tokens = [*self.roles.values(), *(token.content for token in added if token.special)]
        return list(dict.fromkeys(token for token in tokens if token is not None))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        ids: list[int] = self.convert_tokens_to_ids(self.all_special_tokens)
        return ids

    @property
    def vocab_size(self) -> int:
        """The number of tokens without added ones, which ``len(tokenizer)`` includes."""
        return self.bpe.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        """Return the number of all tokens."""
        return self.bpe.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens and their ids."""
        return self.bpe.get_vocab(with_added_tokens=True)

    def _known_ids(self, token_ids: TensorLike, skip_special_tokens: bool) -> list[int]:
        """Return one id or a sequence of ids as a checked list, with or without special tokens."""
        ids = id_sequence(token_ids)
        unknown = {
            index for index in ids if not 0 <= index < _ID_LIMIT or not self.bpe.id_to_token(index)
        }
        if unknown:
            raise TokenOutOfRange(
                f"The ids {sorted(unknown)[:5]} are not in the vocabulary of {len(self)} tokens: "
                "labels mark ignored places with a negative id, which must be removed first."
            )
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [index for index in ids if index not in skipped]
