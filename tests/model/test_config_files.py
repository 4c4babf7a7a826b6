"""GPTJConfig and files: a published config.json comes back as it was."""

import json

import pytest

from gptj.errors import ConfigError
from gptj.model.config import GPTJConfig
from published import PUBLISHED

pytestmark = pytest.mark.neutral

TEXT = json.dumps(PUBLISHED, indent=2, sort_keys=True) + "\n"


@pytest.fixture
def published(tmp_path):
    (tmp_path / "config.json").write_text(TEXT, encoding="utf-8")
    return tmp_path


def test_the_published_file_has_its_published_size():
    assert len(TEXT) == 930


def test_the_published_file_comes_back_byte_for_byte(published, tmp_path):
    GPTJConfig.from_pretrained(published).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "config.json").read_text(encoding="utf-8") == TEXT


def test_the_published_file_is_the_default():
    config = GPTJConfig.from_dict(PUBLISHED)
    config.extra, config.architectures, config.task_specific_params = {}, None, None
    assert config == GPTJConfig()


def test_keys_that_gptj_does_not_use_can_be_read():
    config = GPTJConfig.from_dict({**PUBLISHED, "of_my_own": [1, 2]})
    assert config.of_my_own == [1, 2]
    assert config.summary_type == "cls_index"


def test_a_key_that_gptj_does_not_use_is_written_back_as_it_was_set():
    config = GPTJConfig.from_dict({**PUBLISHED, "of_my_own": 1})
    config.of_my_own, config.max_length = 2, 30
    written = config.to_dict()
    assert (written["of_my_own"], written["max_length"]) == (2, 30)


def test_reading_a_file_does_not_change_what_was_read():
    content = json.loads(TEXT)
    GPTJConfig.from_dict(content, num_labels=3).num_labels = 4
    assert content == PUBLISHED


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_dtype_of_a_file_may_have_either_name(key):
    assert GPTJConfig.from_dict({**PUBLISHED, key: "float16"}).dtype == "float16"


def test_the_dtype_is_written_under_the_name_that_every_release_reads():
    written = GPTJConfig(dtype="bfloat16").to_dict()
    assert written["torch_dtype"] == "bfloat16"
    assert "dtype" not in written


def test_labels_survive_a_file(tmp_path):
    config = GPTJConfig(id2label={index: f"class {index}" for index in range(11)})
    config.save_pretrained(tmp_path)
    assert GPTJConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize(
    "field",
    [
        {"pad_token_id": 50256},
        {"return_dict": False},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"problem_type": "regression"},
        {"num_labels": 5},
    ],
    ids=lambda field: next(iter(field)),
)
def test_a_generic_field_is_written_only_when_it_is_not_default(field):
    (name,) = field
    key = "id2label" if name == "num_labels" else name
    assert key not in GPTJConfig().to_dict()
    text = GPTJConfig(**field).to_json_string()
    assert getattr(GPTJConfig.from_dict(json.loads(text)), name) == field[name]


def test_arguments_stand_above_the_file(published):
    config = GPTJConfig.from_pretrained(published, hidden_size=1024, num_labels=3)
    assert (config.n_embd, config.num_labels, config.n_layer) == (1024, 3, 28)


def test_num_labels_stands_above_the_labels_of_a_file():
    content = GPTJConfig(id2label={0: "a", 1: "b", 2: "c"}).to_dict()
    assert GPTJConfig.from_dict(content, num_labels=1).id2label == {0: "LABEL_0"}


def test_one_file_can_be_written_and_read(tmp_path):
    GPTJConfig(n_layer=3).to_json_file(tmp_path / "any.json")
    assert GPTJConfig.from_json_file(tmp_path / "any.json") == GPTJConfig(n_layer=3)


def test_another_model_type_is_refused():
    with pytest.raises(ConfigError, match="describes a model of type 'gpt2'; gptj reads 'gptj'"):
        GPTJConfig.from_dict({**PUBLISHED, "model_type": "gpt2"})


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not valid JSON"), ("[1]", "holds a list, not a JSON object")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"config.json {message}"):
        GPTJConfig.from_pretrained(tmp_path)


def test_a_folder_without_configuration_says_which_file_is_missing(tmp_path):
    with pytest.raises(OSError, match=r"config\.json"):
        GPTJConfig.from_pretrained(tmp_path)
