"""Read and write the files of a tokenizer.

A folder holds ``tokenizer.json``, which is complete, or ``vocab.json`` with ``merges.txt`` and
perhaps ``added_tokens.json``; the settings are in ``tokenizer_config.json`` and
``special_tokens_map.json``. All six are written, as published with GPT-J.
"""

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from os.path import lexists
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES, old_tokenizer
from gptj.errors import QUOTED, TokenizerError, brief
from gptj.spec.vocabulary import EOS_TOKEN, EXTRA_TOKENS, VOCAB_SIZE, Merge, vocabulary
from gptj.system.atomic import staged, write_text
from gptj.system.file_kinds import foreign_kind, require_file
from gptj.system.folder_saving import Plan
from gptj.system.json_files import read_json
from gptj.tokenizer.token_table import ROLES

_SETTINGS = ("padding_side", "truncation_side", "model_max_length")
_BRACKETS = ("<>", "[]", "{}")
"""What special tokens begin and end with, which no merge makes."""

_TOLERATED = 16
"""Tokens without a merge that any vocabulary may have, besides one in a hundred."""

_VERSION_LINE = "#version: 0.2"


def built_in_tokenizer(size: int = VOCAB_SIZE) -> Tokenizer:
    """Return GPT-J's tokenizer, made from the packaged merges.

    Args:
        size: of the vocabulary, which may lack the last of the extra tokens.
    """
    text = (files("gptj") / "data" / "gpt2_merges.txt").read_text(encoding="utf-8")
    merges = _parse_merges(text, "the packaged merges")
    tokenizer = _byte_level_bpe(vocabulary(merges), merges, add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(EOS_TOKEN, normalized=True)])
    extra = [token for token, index in EXTRA_TOKENS.items() if index < size]
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in extra])
    return tokenizer


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Return the tokenizer whose files are in `folder`, or None if there are none.

    Raises:
        TokenizerError: for a damaged file, or one of a pair without the other.
    """
    if lexists(folder / "tokenizer.json"):
        return _read_complete(folder / "tokenizer.json")
    pair = [folder / "vocab.json", folder / "merges.txt"]
    missing = [path.name for path in pair if not lexists(path)]
    if len(missing) == len(pair):
        return None
    if missing:
        raise TokenizerError(
            f"{folder} lacks {missing[0]}: vocab.json and merges.txt go together. "
            "Add it, or a tokenizer.json, which holds both."
        )
    return _read_pair(folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the roles and settings in `folder`, by the names of GPTJTokenizer's arguments."""
    config = _read_json(folder / "tokenizer_config.json")
    stated = config | _read_json(folder / "special_tokens_map.json")
    settings = {name: config[name] for name in _SETTINGS if config.get(name) is not None}
    for name, value in settings.items():
        kinds = (int, float) if name == "model_max_length" else (str,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TokenizerError(
                f"{folder / 'tokenizer_config.json'} has {name} = {brief(value)}, which is no "
                f"{'number' if name == 'model_max_length' else 'text'}. Correct it, or remove it."
            )
    roles = {name: _content(stated[name], name) for name in ROLES if stated.get(name) is not None}
    return settings | roles


def write_tokenizer(tokenizer: Tokenizer, settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a tokenizer and its settings to a folder, all files or none."""
    complete = tokenizer.to_str(pretty=True)
    texts = {
        "tokenizer.json": complete,
        "added_tokens.json": json.dumps(_added_tokens(tokenizer)),
        "special_tokens_map.json": json.dumps(_special_tokens_map(settings)),
        "tokenizer_config.json": json.dumps(_tokenizer_config(tokenizer, settings), indent=2)
        + "\n",
    }
    model = json.loads(complete)["model"]
    if model["type"] == "BPE":
        lines = [_VERSION_LINE, *(" ".join(merge) for merge in model["merges"])]
        texts["vocab.json"] = json.dumps(model["vocab"])
        texts["merges.txt"] = "\n".join(lines) + "\n"
    plan = Plan(TOKENIZER_FILES.__contains__, lambda new: old_tokenizer(folder, new) - new)
    with staged(folder, plan) as new:
        for name, text in texts.items():
            write_text(new / name, text)
    return [folder / name for name in texts]


def _byte_level_bpe(
    vocab: dict[str, int], merges: list[Merge], *, add_prefix_space: bool
) -> Tokenizer:
    model = models.BPE(
        vocab, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _parse_merges(text: str, source: object) -> list[Merge]:
    # splitlines() would also split at other characters, which merges contain.
    lines = text.rstrip("\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    pairs = [line.split(" ") for line in lines]
    wrong = next((number for number, pair in enumerate(pairs, start=1) if len(pair) != 2), None)
    if wrong is not None:
        raise TokenizerError(
            f"Merge {wrong} of {source} is {brief(lines[wrong - 1])}; "
            "a merge is two tokens with one blank between them."
        )
    return [(left, right) for left, right in pairs]


def _read_complete(path: Path) -> Tokenizer:
    require_file(path, TokenizerError)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        about = foreign_kind(path) or f"{str(error)[:QUOTED]}."
        raise TokenizerError(
            f"{path} cannot be read as a tokenizer: {about} Download it again, or remove it to "
            "use vocab.json and merges.txt, or the built-in tokenizer."
        ) from error
    # A fixed length from training is saved here; it would truncate or pad every later text.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_pair(folder: Path) -> Tokenizer:
    config = _read_json(folder / "tokenizer_config.json")
    vocab = _read_json(folder / "vocab.json")
    merges = _read_merges(folder / "merges.txt")
    has_prefix_space = bool(config.get("add_prefix_space", False))
    try:
        tokenizer = _byte_level_bpe(vocab, merges, add_prefix_space=has_prefix_space)
    except Exception as error:  # the package raises nothing narrower
        raise TokenizerError(
            f"vocab.json and merges.txt in {folder} do not fit together: {str(error)[:QUOTED]}. "
            "Take both from the same model."
        ) from error
    declared = _declared(config.get("added_tokens_decoder") or {}, folder)
    flags = {token: is_special for token, (_, is_special) in declared.items()}
    ids = {token: index for token, (index, _) in declared.items()}
    ids |= _added_ids(folder / "added_tokens.json")
    _check_complete(vocab, merges, ids)
    _add_tokens(tokenizer, ids, flags)
    return tokenizer


def _read_merges(path: Path) -> list[Merge]:
    require_file(path, TokenizerError)
    try:
        text = path.read_text("utf-8-sig")
    except ValueError as error:
        why = foreign_kind(path) or "it is not text in UTF-8. Download or copy it again."
        raise TokenizerError(f"{path} cannot be read: {why}") from error
    about = foreign_kind(path)
    if about is not None:
        raise TokenizerError(f"{path} is no list of merges: {about}")
    return _parse_merges(text, path)


def _check_complete(vocab: Mapping[str, Any], merges: list[Merge], known: Iterable[str]) -> None:
    """Refuse merges that were cut short: much of the vocabulary would never be written."""
    made = {left + right for left, right in merges} | set(known)
    missing = [
        token
        for token in vocab
        if len(token) > 1 and token not in made and token[0] + token[-1] not in _BRACKETS
    ]
    if len(missing) > _TOLERATED + len(vocab) // 100:
        raise TokenizerError(
            f"merges.txt lacks the merges of {len(missing)} tokens of vocab.json, such as "
            f"{brief(missing[-1])}: it is cut short, or of another model. Download it again."
        )


def _declared(entries: object, folder: Path) -> dict[str, tuple[int, bool]]:
    """Return the added tokens of ``tokenizer_config.json``: their ids, and if they are special."""
    try:
        return {
            _content(entry, "added_tokens_decoder"): (int(index), bool(entry.get("special", False)))
            for index, entry in entries.items()  # type: ignore[attr-defined]
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'} has an added_tokens_decoder that cannot be read "
            f"({brief(error)}): it leads from ids to tokens. Download or copy it again."
        ) from error


def _added_ids(path: Path) -> dict[str, int]:
    ids = _read_json(path)
    wrong = next((token for token, index in ids.items() if type(index) is not int), None)
    if wrong is not None:
        raise TokenizerError(
            f"{path} gives the token {brief(wrong)} the id {brief(ids[wrong])}; an id is a whole "
            "number. Download or copy it again."
        )
    return ids


def _add_tokens(tokenizer: Tokenizer, ids: dict[str, int], special: dict[str, bool]) -> None:
    wrong = next((token for token in ids if not _is_encodable(token)), None)
    if wrong is not None:
        raise TokenizerError(f"The added token {brief(wrong)} has half of a character.")
    ordered = sorted(ids, key=lambda token: ids[token])
    tokenizer.add_tokens(
        [AddedToken(token, normalized=True, special=special.get(token, False)) for token in ordered]
    )
    moved = {token: ids[token] for token in ordered if tokenizer.token_to_id(token) != ids[token]}
    if moved:
        raise TokenizerError(
            f"These added tokens cannot have their ids: {brief(moved)}. "
            "Added ids must follow the vocabulary's without a gap."
        )


def _added_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the added tokens, which the model's vocabulary lacks, in order of their ids."""
    own = tokenizer.get_vocab_size(with_added_tokens=False)
    added = tokenizer.get_added_tokens_decoder()
    return {added[index].content: index for index in sorted(added) if index >= own}


def _special_tokens_map(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    # As published: the pad token is listed only if it differs from the end-of-text token.
    unstated = {"pad_token"} if settings["pad_token"] == settings["eos_token"] else set()
    return {
        role: _token_entry(settings[role])
        for role in ROLES
        if role not in unstated and settings[role] is not None
    }


def _tokenizer_config(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "add_prefix_space": getattr(tokenizer.pre_tokenizer, "add_prefix_space", False),
        "errors": "replace",
        "tokenizer_class": "GPT2Tokenizer",
        **{name: settings[name] for name in (*_SETTINGS, *ROLES) if settings[name] is not None},
    }


def _token_entry(content: str) -> dict[str, Any]:
    return {
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
    }


def _content(token: object, what: str) -> str:
    """Return the text of a token, which files have as text or as an object."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str) or not _is_encodable(content):
        raise TokenizerError(
            f"The files of the tokenizer have {what} = {brief(token)}, which is no token. Correct "
            "it, or remove it."
        )
    return content


def _is_encodable(text: str) -> bool:
    """Return whether text has no halves of characters, which no vocabulary holds."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, TokenizerError) if lexists(path) else {}
