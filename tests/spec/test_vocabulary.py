"""The facts of GPT-J's vocabulary."""

import pytest

from gptj.errors import TokenizerError
from gptj.model.config import GPTJConfig
from gptj.spec.vocabulary import (
    BYTE_COUNT,
    EOS_TOKEN_ID,
    EXTRA_TOKEN_COUNT,
    EXTRA_TOKENS,
    GPT2_VOCAB_SIZE,
    MERGE_COUNT,
    VOCAB_SIZE,
    byte_table,
    vocabulary,
)

pytestmark = pytest.mark.neutral


def test_the_sizes_add_up_to_the_rows_of_the_embedding():
    assert BYTE_COUNT + MERGE_COUNT == EOS_TOKEN_ID
    assert EOS_TOKEN_ID + 1 == GPT2_VOCAB_SIZE
    assert GPT2_VOCAB_SIZE + EXTRA_TOKEN_COUNT == VOCAB_SIZE == GPTJConfig.vocab_size
    assert GPTJConfig.eos_token_id == GPTJConfig.bos_token_id == EOS_TOKEN_ID


def test_the_extra_tokens_are_numbered_from_one():
    assert len(EXTRA_TOKENS) == EXTRA_TOKEN_COUNT
    assert EXTRA_TOKENS["<|extratoken_1|>"] == 50257
    assert EXTRA_TOKENS["<|extratoken_143|>"] == 50399


def test_every_byte_has_a_character_of_its_own_that_prints():
    table = byte_table()
    assert sorted(table) == list(range(256))
    assert len(set(table.values())) == 256
    assert all(character.isprintable() and character != " " for character in table.values())
    assert (table[ord("a")], table[ord(" ")], table[0xAD]) == ("a", "Ġ", "Ń")
    assert list(table)[:2] == [ord("!"), ord('"')]


def test_a_short_merge_table_is_refused():
    with pytest.raises(TokenizerError, match="GPT-2 has 50000 merges, but 1 were given"):
        vocabulary([("a", "b")])


def test_a_merge_of_unknown_parts_is_refused():
    with pytest.raises(TokenizerError, match=r"Merge 2 joins 'ab' and 'cd', but \['cd'\] come"):
        vocabulary([("a", "b"), ("ab", "cd")])


def test_a_merge_that_stands_twice_is_refused():
    with pytest.raises(TokenizerError, match="Merge 2 makes 'ab' a second time"):
        vocabulary([("a", "b"), ("a", "b")])
