"""From a name to local files, without a network; `test_hub_server.py` has one."""

from pathlib import Path

import pytest

import gptj
from gptj import hub
from gptj.errors import CheckpointError

pytestmark = pytest.mark.neutral


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def downloads(monkeypatch):
    """The downloads that were asked for; nothing is downloaded."""
    asked = []

    def fetch(source, weights):
        asked.append((source.repository, source.revision, source.subfolder))
        return Path("cache") / source.subfolder

    monkeypatch.setattr("gptj.hub.download.fetch", fetch)
    return asked


@pytest.fixture
def offline(tmp_path):
    """Options of `locate` that reach no network and find an empty cache."""
    return {"cache_dir": tmp_path / "cache", "local_files_only": True}


def test_the_demo_is_inside_the_package(downloads):
    assert hub.locate("demo") == Path(gptj.__file__).parent / "data" / "demo"
    assert downloads == []


@pytest.mark.parametrize("name", ["6B", "6b", "gpt-j-6B", "GPT-J-6b", "EleutherAI/gpt-j-6B"])
def test_the_6b_is_the_published_one_in_any_case(name, downloads):
    hub.locate(name)
    assert downloads == [("EleutherAI/gpt-j-6B", None, "")]


@pytest.mark.parametrize(
    ("name", "options", "asked"),
    [
        ("org/name", {}, ("org/name", None, "")),
        ("gpt2", {}, ("gpt2", None, "")),
        ("org/na.me_1-x", {}, ("org/na.me_1-x", None, "")),
        ("org/name@float16", {}, ("org/name", "float16", "")),
        ("org/name@refs/pr/3", {}, ("org/name", "refs/pr/3", "")),
        ("6B@float16", {}, ("EleutherAI/gpt-j-6B", "float16", "")),
        ("org/name", {"revision": "v1"}, ("org/name", "v1", "")),
        ("org/name@v1", {"revision": "v2"}, ("org/name", "v2", "")),
        ("org/name", {"subfolder": "a/b"}, ("org/name", None, "a/b")),
    ],
    ids=str,
)
def test_a_hub_id_may_carry_its_revision(name, options, asked, downloads):
    assert hub.locate(name, **options) == Path("cache") / options.get("subfolder", "")
    assert downloads == [asked]


@pytest.mark.parametrize("name", ["folder", "org/name", "gpt2", "name@v1"])
def test_a_folder_wins_over_a_hub_id(name, downloads):
    Path(name).mkdir(parents=True)
    assert hub.locate(name) == Path(name)
    assert downloads == []


@pytest.mark.parametrize("name", ["demo", "6B"])
def test_a_preset_wins_over_a_folder(name, downloads):
    Path(name).mkdir()
    assert hub.locate(name) != Path(name)


@pytest.mark.parametrize("name", ["./demo", "./6B", Path("demo"), Path("6B")], ids=repr)
def test_a_folder_with_the_name_of_a_preset_can_be_asked_for(name, downloads):
    Path(name).mkdir()
    assert hub.locate(name) == Path(name)
    assert downloads == []


def test_a_file_is_found():
    Path("model.safetensors").touch()
    assert hub.locate("model.safetensors") == Path("model.safetensors")


def test_a_subfolder_is_inside_the_folder():
    Path("folder/part").mkdir(parents=True)
    assert hub.locate("folder", subfolder="part") == Path("folder/part")


@pytest.mark.parametrize(
    "name", ["", "./nothing", "../nothing", "/no/such", "~/x", "a/b/c", "a b", "org/", "/name"]
)
def test_what_can_be_neither_file_nor_hub_id_is_refused(name, downloads):
    with pytest.raises(CheckpointError, match="neither an existing folder or file, nor a preset"):
        hub.locate(name)
    assert downloads == []


@pytest.mark.parametrize("name", ["folder/mispelt", "mispelt", "org/name"])
def test_offline_both_possibilities_are_named(name, offline):
    with pytest.raises(CheckpointError) as caught:
        hub.locate(name, **offline)
    assert f"There is no folder or file {name!r} here" in str(caught.value)
    assert f"run with a connection: hf download {name} --cache-dir " in str(caught.value)


def test_offline_the_revision_is_part_of_what_to_run(offline):
    with pytest.raises(CheckpointError, match="hf download org/name --revision v1"):
        hub.locate("org/name@v1", **offline)


def test_what_is_in_the_cache_is_found_offline(offline, tmp_path):
    repository = tmp_path / "cache" / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}", encoding="utf-8")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    assert hub.locate("org/name", **offline) == snapshot


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("folder", "folder/config.json"),
        ("folder/model.safetensors", "folder/config.json"),
        ("folder/other.json", "folder/other.json"),
    ],
)
def test_the_configuration_stands_beside_the_weights(name, file):
    Path("folder").mkdir()
    for entry in ("config.json", "model.safetensors", "other.json"):
        (Path("folder") / entry).touch()
    assert hub.locate_config(name) == Path(file)
