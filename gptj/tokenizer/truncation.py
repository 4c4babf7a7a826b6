"""Truncation of texts and pairs of texts to windows of limited length."""

from collections.abc import Collection, Mapping, Set
from typing import Any, Final

from tokenizers import Encoding, Tokenizer

from gptj.errors import TokenizerError

TRUNCATIONS: Final = {
    None: "do_not_truncate",
    False: "do_not_truncate",
    True: "longest_first",
    "do_not_truncate": "do_not_truncate",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
}

Pair = tuple[str, str | None]


def text_pairs(text: Any, text_pair: Any) -> list[Pair]:
    """Return the texts, each with its second text or None.

    Raises:
        TokenizerError: for anything but strings and collections of them, all in the same form.
    """
    if isinstance(text, str):
        pairs = [(text, text_pair)]
    else:
        texts = _items("text", text)
        pairs = [_pair(item) for item in texts]
        if text_pair is not None:
            seconds = _items("text_pair", text_pair)
            if len(texts) != len(seconds):
                raise TokenizerError(
                    f"{len(texts)} texts came with {len(seconds)} in text_pair: give one for each."
                )
            pairs = list(zip(texts, seconds, strict=True))
    for pair in pairs:
        _check_strings(pair)
    return pairs


def encode_pairs(tokenizer: Tokenizer, pairs: list[Pair]) -> list[list[Encoding]]:
    """Return the encodings, one or two, of every pair, without special tokens."""
    texts = [text for pair in pairs for text in pair if text is not None]
    encodings = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    return [[next(encodings) for text in pair if text is not None] for pair in pairs]


def windows(
    tokenizer: Tokenizer,
    encodings: list[Encoding],
    *,
    limit: int | None,
    strategy: str,
    side: str,
    stride: int,
    add_special_tokens: bool,
) -> list[Encoding]:
    """Return the pair as one encoding of at most `limit` tokens, then the overflowing windows."""
    if limit is not None:
        added = tokenizer.num_special_tokens_to_add(len(encodings) == 2) * add_special_tokens
        first, *second = (len(encoding.ids) for encoding in encodings)
        kept = kept_lengths(first, sum(second), limit - added, strategy)
        for encoding, length in zip(encodings, kept, strict=False):  # a single text has no second
            _truncate(encoding, length, stride, side)
    pair = encodings[1] if len(encodings) == 2 else None
    whole = tokenizer.post_process(encodings[0], pair, add_special_tokens)
    return [whole, *whole.overflowing]


def kept_lengths(first: int, second: int, limit: int, strategy: str) -> tuple[int, int]:
    """Return the numbers of tokens of each text that stay, at most `limit` in all.

    Raises:
        TokenizerError: if the only text that may be cut is too short.
    """
    excess = first + second - limit
    if excess <= 0:
        return first, second
    if strategy == "longest_first":
        shorter = min(first, second, max(limit, 0) // 2)
        longer = max(limit, 0) - shorter
        return (longer, shorter) if first > second else (shorter, longer)
    cut = first if strategy == "only_first" else second
    if excess > cut:
        raise TokenizerError(
            f"truncation={strategy!r} cannot bring texts of {first} and {second} tokens down to "
            f"{limit}: raise max_length, or use truncation='longest_first'."
        )
    return (first - excess, second) if strategy == "only_first" else (first, second - excess)


def _truncate(encoding: Encoding, length: int, stride: int, side: str) -> None:
    if len(encoding.ids) <= length:
        return
    if stride and not 0 < stride < length:
        raise TokenizerError(
            f"stride is {stride}, but a window keeps {length} tokens of its text: "
            "stride must be smaller, or no window would bring anything new."
        )
    encoding.truncate(length, stride=stride, direction=side)


def _items(name: str, texts: Any) -> list[Any]:
    # Mappings and sets are collections too, but not ordered ones of texts.
    is_list = isinstance(texts, Collection) and not isinstance(texts, bytes | Mapping | Set)
    if not is_list or isinstance(texts, str):
        raise TokenizerError(
            f"{name} is {texts!r}, a {type(texts).__name__}; it must be a string or a list of "
            "strings, and text_pair of the same form as text."
        )
    return list(texts)


def _pair(item: Any) -> Any:
    is_pair = isinstance(item, tuple | list) and len(item) == 2
    return tuple(item) if is_pair else (item, None)


def _check_strings(pair: tuple[Any, Any]) -> None:
    for text in pair if pair[1] is not None else pair[:1]:
        if not isinstance(text, str):
            raise TokenizerError(
                f"{text!r} is a {type(text).__name__}; a text is a string, and a batch a list of "
                "strings or of (text, pair) tuples. Join words with ' '.join(words)."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise TokenizerError(
                f"{text!r} holds half of a surrogate pair, which is no character: clean it with "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
            ) from None
