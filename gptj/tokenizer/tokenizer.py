"""GPTJTokenizer: text to token ids and back, with the familiar call."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Unpack

from tokenizers import Tokenizer

from gptj.checkpoint.snapshot import read_whole
from gptj.errors import TokenizerError
from gptj.hub.locations import locate
from gptj.hub.names import OPTIONS, is_preset
from gptj.hub.upload import Uploads
from gptj.spec.config import GPTJConfig
from gptj.system.atomic import folder_named
from gptj.tokenizer.encoding import (
    PADDINGS,
    SIDES,
    BatchEncoding,
    collate,
    common_length,
    look_up,
    pad_sequences,
    tensors,
)
from gptj.tokenizer.files import built_in_tokenizer, read_settings, read_tokenizer, write_tokenizer
from gptj.tokenizer.ggml_tokens import ggml_tokenizer
from gptj.tokenizer.options import TokenizerFiles
from gptj.tokenizer.script_calls import ScriptCalls, refuse_unknown
from gptj.tokenizer.token_table import ROLES, TokenTable
from gptj.tokenizer.truncation import TRUNCATIONS, encode_pairs, text_pairs, windows

_UNBOUNDED: Final = 10**20
"""Published settings mean "no limit" by a model_max_length above this."""


class GPTJTokenizer(ScriptCalls, TokenTable, Uploads):
    """GPT-2's byte-level BPE with GPT-J's extra tokens, or another tokenizer read from files.

    Padding uses ``<|endoftext|>`` by default; the attention mask distinguishes it from text. The
    attributes `padding_side`, `truncation_side`, `model_max_length` and the special tokens can be
    set.
    """

    model_input_names: Final = ("input_ids", "attention_mask")

    def __init__(
        self,
        tokenizer_object: Tokenizer | None = None,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        unk_token: str | None = None,
        pad_token: str | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        model_max_length: int = GPTJConfig.n_positions,
    ) -> None:
        """Wrap `tokenizer_object`, or build GPT-J's tokenizer.

        Special tokens default to ``<|endoftext|>``; new ones are added.
        """
        roles = dict(zip(ROLES, (bos_token, eos_token, unk_token, pad_token), strict=True))
        bpe = built_in_tokenizer() if tokenizer_object is None else tokenizer_object
        super().__init__(bpe, roles)
        self.padding_side = padding_side
        self.truncation_side = truncation_side
        self.model_max_length = model_max_length

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "6B",
        *,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        model_max_length: int | None = None,
        pad_token: str | None = None,
        **where: Unpack[TokenizerFiles],
    ) -> "GPTJTokenizer":
        """Return the tokenizer of a preset, a folder, a model file's folder or a hub id.

        Files of a folder override the built-in tokenizer, and arguments override its settings.
        `where` takes what ``gptj.hub.locate`` takes: ``revision``, ``cache_dir`` and so on.

        Raises:
            TokenizerError: for damaged files, or a vocabulary without its merges, as a ggml file
                has, unless it is GPT-J's.
        """
        given = {
            "padding_side": padding_side,
            "truncation_side": truncation_side,
            "model_max_length": model_max_length,
            "pad_token": pad_token,
        }
        settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        refuse_unknown(where, OPTIONS | given.keys())
        places: dict[str, Any] = {**where}
        place = _place(name, {key: places[key] for key in OPTIONS & places.keys()})
        if place is None:
            found = cls(**settings)
        else:
            folder = place.parent if place.is_file() else place
            bpe, own = read_whole(folder, lambda: (read_tokenizer(folder), read_settings(folder)))
            found = cls(bpe or ggml_tokenizer(place), **(own | settings))
        found.name_or_path = str(name)
        return found

    def save_pretrained(self, folder: str | Path) -> list[Path]:
        """Write the tokenizer to `folder` in GPT-J's published form, and return the files."""
        settings = {
            **self.roles,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "model_max_length": self.model_max_length,
        }
        return write_tokenizer(self.bpe, settings, folder_named(folder))

    def __call__(
        self,
        text: str | Collection[Any],
        text_pair: str | Collection[str] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
    ) -> BatchEncoding:
        """Encode a text, a pair of texts, or a list of either.

        Args:
            text: a string, a list of strings, or a list of (text, pair) tuples.
            text_pair: the text that follows each text, in the same form as `text`.
            padding: ``True`` to the longest sequence, ``"max_length"``, or ``False``.
            truncation: ``True`` (the longer text first), ``"only_first"``, ``"only_second"`` or
                ``False``; ``None`` truncates where `max_length` is given.
            max_length: tokens per sequence; ``None`` means `model_max_length`.
            stride: tokens that a window shares with the previous one.
            return_tensors: ``"pt"``, ``"tf"``, ``"np"`` or ``"jax"``; (B, T) also for one text.
            return_overflowing_tokens: return every window of a text that is too long as a
                sequence, with the index of its text in ``overflow_to_sample_mapping``.
            return_offsets_mapping: add each token's (start, end) in its text.
            return_special_tokens_mask: add 1 for tokens put around a text, 0 for its own.

        Raises:
            TokenizerError: for other types, lengths or names.
            BackendUnavailable: if the framework of `return_tensors` is not installed.
        """
        pairs = text_pairs(text, text_pair)
        strategy = look_up("truncation", truncation, TRUNCATIONS)
        if truncation is None and max_length is not None:
            strategy = "longest_first"
        limit = None if strategy == "do_not_truncate" else self._limit(max_length)
        cut = partial(
            windows,
            self.bpe,
            limit=limit,
            strategy=strategy,
            side=look_up("truncation_side", self.truncation_side, SIDES),
            stride=stride,
            add_special_tokens=add_special_tokens,
        )
        last = None if return_overflowing_tokens else 1
        kept = [cut(pair)[:last] for pair in encode_pairs(self.bpe, pairs)]
        encodings = [encoding for shown in kept for encoding in shown]
        batch = BatchEncoding(input_ids=[encoding.ids for encoding in encodings])
        if return_token_type_ids:
            # Encoding.type_ids is lost in overflowing windows; special tokens have None here.
            batch["token_type_ids"] = [
                [number or 0 for number in encoding.sequence_ids] for encoding in encodings
            ]
        if return_attention_mask is not False:
            batch["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        if return_offsets_mapping:
            batch["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if return_special_tokens_mask:
            batch["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if return_overflowing_tokens:
            batch["overflow_to_sample_mapping"] = [n for n, shown in enumerate(kept) for _ in shown]
        is_one = isinstance(text, str) and not return_overflowing_tokens
        return self._finish(
            batch, is_one, padding, max_length, padding_side, pad_to_multiple_of, return_tensors
        )

    def pad(
        self,
        encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str | None = True,
        *,
        max_length: int | None = None,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pad earlier encodings: a list of them, or one dict of sequences."""
        batch = collate(encoded)
        is_one = not all(isinstance(ids, list) for ids in batch["input_ids"])
        if is_one:
            batch = BatchEncoding({name: [values] for name, values in batch.items()})
        if return_attention_mask is not False and "attention_mask" not in batch:
            batch["attention_mask"] = [[1] * len(ids) for ids in batch["input_ids"]]
        return self._finish(
            batch, is_one, padding, max_length, padding_side, pad_to_multiple_of, return_tensors
        )

    def encode(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = None,
    ) -> Any:
        """Return the ids of one text, or pair, as a list, or a tensor of shape (1, T)."""
        return self(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )["input_ids"]

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text in the vocabulary's spelling (``Ġ`` for a blank)."""
        tokens: list[str] = self.convert_ids_to_tokens(self.encode(text))
        return tokens

    def __repr__(self) -> str:
        """Return the size, roles and settings as text."""
        return (
            f"GPTJTokenizer({len(self)} tokens, {self.roles}, padding_side={self.padding_side!r}, "
            f"model_max_length={self.model_max_length})"
        )

    def _finish(
        self,
        batch: BatchEncoding,
        is_one: bool,
        padding: bool | str | None,
        max_length: int | None,
        padding_side: str | None,
        pad_to_multiple_of: int | None,
        return_tensors: str | None,
    ) -> BatchEncoding:
        """Pad the sequences and return them in the requested form."""
        strategy = look_up("padding", padding, PADDINGS)
        if strategy != "do_not_pad":
            fixed = self._limit(max_length) if strategy == "max_length" else None
            sizes = [len(ids) for ids in batch["input_ids"]]
            batch = pad_sequences(
                batch,
                length=common_length(sizes, fixed, pad_to_multiple_of),
                side=look_up("padding_side", padding_side or self.padding_side, SIDES),
                pad_token_id=self._pad_id(),
            )
        if return_tensors is not None:
            return tensors(batch, return_tensors)
        return (
            BatchEncoding({name: sequences[0] for name, sequences in batch.items()})
            if is_one
            else batch
        )

    def _limit(self, max_length: int | None) -> int:
        limit = self.model_max_length if max_length is None else max_length
        if not 0 <= limit < _UNBOUNDED:
            raise TokenizerError(
                f"The length to pad or truncate to is {limit}: pass a max_length of 0 or more, or "
                "set tokenizer.model_max_length."
            )
        return limit

    def _pad_id(self) -> int:
        if self.pad_token_id is None:
            raise TokenizerError(
                "This tokenizer has no pad token: set tokenizer.pad_token to a token of its "
                "vocabulary, for example tokenizer.pad_token = tokenizer.eos_token."
            )
        return self.pad_token_id


def _place(name: str | Path, where: Mapping[str, Any]) -> Path | None:
    """Return the folder or the file of `name`, or None for a preset, which needs none."""
    return None if is_preset(name) else locate(name, weights=False, **where)
