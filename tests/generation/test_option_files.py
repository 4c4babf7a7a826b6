"""The options that a folder holds: found, followed, named by `inspect`, and saved, in all forms."""

import json
import shutil

import numpy as np
import pytest

import gptj
from gptj.errors import ArgumentError
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from models import draw_ids, load
from paths import TINY

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((1, 3), seed=5)
OLD = {
    "max_length": 12,
    "repetition_penalty": 1.9,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[21]],
    "min_length": 2,
    "num_beams": 2,
    "top_p": 0.9,
}


def folder_with(folder, config=None, own=None):
    """Return a copy of the tiny model with keys added to config.json, and other options."""
    shutil.copytree(TINY, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    if own is None:
        (folder / "generation_config.json").unlink()
    else:
        (folder / "generation_config.json").write_text(json.dumps(own))
    return folder


def text_of(backend, folder, **options):
    """Return what the tiny model writes under the options of a folder; it is loaded once."""
    config = GPTJConfig.from_json_file(folder / "config.json")
    own = GenerationConfig.from_folder(folder, config)
    model = load(backend.name, TINY)
    return backend.to_numpy(model.generate(PROMPT, generation_config=own, **options))


def test_options_of_an_old_configuration_are_followed_named_and_saved(backend, tmp_path):
    folder = folder_with(tmp_path / "old", OLD)
    expected = text_of(backend, TINY, **OLD)
    assert expected.shape[1] <= 12 and 21 not in expected[0, 3:]
    np.testing.assert_array_equal(text_of(backend, folder), expected)
    model = load_model(backend, "causal_lm", folder)
    np.testing.assert_array_equal(backend.to_numpy(model.generate(PROMPT)), expected)
    model.save_pretrained(tmp_path / "new")
    content = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert {**content, **OLD} == content
    np.testing.assert_array_equal(text_of(backend, tmp_path / "new"), expected)


def test_inspect_says_where_each_option_is_from(tmp_path):
    found = gptj.inspect(folder_with(tmp_path / "old", OLD)).to_dict()["generation"]
    assert {name: found[name] for name in OLD} == {
        name: {"value": value, "from": "config.json"} for name, value in OLD.items()
    }
    shown = gptj.inspect(folder_with(tmp_path / "own", OLD, {"num_beams": 3}))
    assert "generation: num_beams = 3, from generation_config.json" in str(shown)
    assert "max_length" not in shown.to_dict()["generation"]


UNUSED = [
    {"do_sample": False, "temperature": 0.0, "top_k": 1},
    {"temperature": -1.0, "top_p": 7, "num_beam_groups": 5, "length_penalty": 1e300},
    {"do_sample": True, "temperature": 0.0, "seed": 1},
    {"num_return_sequences": 3},
    {"pad_token_id": -1},
    {"pad_token_id": 96},
]


@pytest.mark.parametrize("own", UNUSED, ids=str)
def test_options_without_effect_leave_the_greedy_text(backend, tmp_path, own):
    expected = text_of(backend, TINY, max_new_tokens=4)
    found = text_of(backend, folder_with(tmp_path / "own", own=own), max_new_tokens=4)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ends", [96, 50256, [96, 7]], ids=str)
def test_an_end_outside_the_vocabulary_ends_nothing(backend, tmp_path, caplog, ends):
    folder = folder_with(tmp_path / "own", {"eos_token_id": ends})
    found = text_of(backend, folder, max_new_tokens=4)
    assert len(caplog.messages) == 1 and "is not in the vocabulary of 96 tokens" in caplog.text
    known = 7 if isinstance(ends, list) else None
    expected = text_of(backend, TINY, max_new_tokens=4, eos_token_id=known)
    np.testing.assert_array_equal(found, expected)


def test_a_caller_may_not_ask_for_several_greedy_texts(backend):
    with pytest.raises(ArgumentError, match="2 greedy texts would be equal"):
        text_of(backend, TINY, num_return_sequences=2)


LACKED = {"guidance_scale": 1.5, "forced_bos_token_id": 7, "epsilon_cutoff": 3e-4}
WITHOUT_EFFECT = {
    "guidance_scale": 1.0,
    "eta_cutoff": 0.0,
    "force_words_ids": None,
    "low_memory": 1,
}
LACKING = "guidance_scale are not options of gptj: text is written without"


@pytest.mark.parametrize("place", ["config", "own"])
def test_an_option_that_is_lacking_here_is_named_and_kept(framework, place, tmp_path, caplog):
    folder = folder_with(tmp_path / "model", **{place: LACKED})
    model = load_model(framework, "causal_lm", folder)
    (said,) = [message for message in caplog.messages if "not options" in message]
    assert "epsilon_cutoff, forced_bos_token_id, " + LACKING in said
    np.testing.assert_array_equal(
        framework.to_numpy(model.generate(PROMPT)), text_of(framework, TINY)
    )
    assert any(LACKING in note for note in gptj.inspect(folder).to_dict()["notes"])
    model.save_pretrained(tmp_path / "new")
    content = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert {**content, **LACKED} == content


@pytest.mark.parametrize("place", ["config", "own"])
def test_a_lacking_option_that_changes_nothing_is_not_named(backend, place, tmp_path, caplog):
    folder = folder_with(tmp_path / "model", **{place: WITHOUT_EFFECT})
    load_model(backend, "causal_lm", folder)
    assert caplog.messages == []
    assert gptj.inspect(folder).to_dict()["notes"] == gptj.inspect(TINY).to_dict()["notes"]
