"""Downloads from a hub on this machine: what is fetched, and what is kept."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import gptj
from gptj import hub
from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from hub_server import INDEX, SHARDS, SMALL, connect, serve, write, write_index
from paths import GOLDEN

pytestmark = pytest.mark.frameworks

FORMATS = GOLDEN / "formats"


# What is downloaded


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["tf_model.h5", "flax_model.msgpack", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["tf_model.h5", "flax_model.msgpack"], ["flax_model.msgpack"]),
        (["tf_model.h5", "model.safetensors.fp16"], ["tf_model.h5"]),
        (["pytorch_model.bin", "model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", INDEX, *SHARDS], ["pytorch_model.bin"]),
        (["tf_model.h5", INDEX, *SHARDS, "pytorch_model-3.bin"], [*SHARDS, INDEX]),
    ],
    ids=" ".join,
)
def test_the_weights_come_in_the_best_format_and_in_no_other(served, repository, there, taken):
    write(repository, there)
    if INDEX in there:
        write_index(repository, SHARDS)
    folder = hub.locate("org/name")
    assert served.fetched == sorted([*SMALL, *taken])
    assert {path.name for path in folder.iterdir()} == {*SMALL, *taken}
    assert all((folder / name).read_bytes() == (repository / name).read_bytes() for name in taken)


def test_sharded_safetensors_are_better_than_a_whole_bin(served, whole):
    write_index(write(whole, ["a.safetensors"]), ["a.safetensors"], "model.safetensors.index.json")
    hub.locate("org/name")
    assert served.fetched == sorted([*SMALL, "a.safetensors", "model.safetensors.index.json"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("org/name@float16", {}),
        ("org/name", {"revision": "float16"}),
        ("org/name@main", {"revision": "float16"}),
        ("old", {}),
    ],
    ids=str,
)
def test_a_revision_has_files_of_its_own(served, name, options):
    folder = hub.locate(name, **options)
    assert (folder / "config.json").read_text().startswith("float16: config.json")
    assert served.fetched == sorted([*SMALL, "model.safetensors"])


def test_a_commit_is_a_revision(served):
    commit = hub.locate("org/name@float16").name
    served.log.clear()
    assert hub.locate(f"org/name@{commit}").name == commit
    assert served.fetched == []


def test_a_subfolder_is_looked_at_alone(served, repository):
    write(repository, ["sub/config.json", "sub/tf_model.h5", "pytorch_model.bin"])
    folder = hub.locate("org/name", subfolder="sub/")
    assert served.fetched == ["sub/config.json", "sub/tf_model.h5"]
    assert (folder / "tf_model.h5").read_text().startswith("main: sub/tf_model.h5")


def test_without_weights_none_are_downloaded(served, sharded):
    folder = hub.locate("org/name", weights=False)
    assert served.fetched == SMALL
    assert (folder / "config.json").is_file()


def test_a_configuration_comes_without_weights(served, repository):
    (repository / "config.json").write_text('{"n_layer": 3}')
    write(repository, ["pytorch_model.bin"])
    assert GPTJConfig.from_pretrained("org/name").n_layer == 3
    assert served.fetched == SMALL


def test_a_tokenizer_comes_without_weights(served, repository):
    write(repository, ["pytorch_model.bin"])
    (repository / "merges.txt").unlink()
    (repository / "tokenizer_config.json").write_text('{"padding_side": "left"}')
    assert gptj.load_tokenizer("org/name").padding_side == "left"
    assert "pytorch_model.bin" not in served.fetched


def test_weights_without_a_configuration_are_downloaded(served, repository):
    for name in SMALL:
        (repository / name).unlink()
    write(repository, ["pytorch_model.bin"])
    assert (hub.locate("org/name") / "pytorch_model.bin").is_file()


# What is kept


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_what_is_there_is_not_downloaded_again(served, kind, request):
    request.getfixturevalue(kind)
    folder = hub.locate("org/name")
    served.log.clear()
    assert hub.locate("org/name") == folder
    assert [entry.path.partition("?")[0] for entry in served.log] == ["/api/models/org/name"]


def test_weights_that_come_later_complete_the_folder(served, whole):
    folder = hub.locate("org/name", weights=False)
    served.log.clear()
    assert hub.locate("org/name") == folder
    assert served.fetched == ["pytorch_model.bin"]


def test_of_a_new_commit_only_what_changed_is_downloaded(served, whole):
    folder = hub.locate("org/name")
    served.log.clear()
    (whole / "config.json").write_text("new")
    assert hub.locate("org/name") != folder
    assert served.fetched == ["config.json"]
    assert (hub.locate("org/name", local_files_only=True) / "config.json").read_text() == "new"


def test_a_download_can_be_forced(served, sharded):
    hub.locate("org/name")
    served.log.clear()
    hub.locate("org/name", force_download=True)
    assert served.fetched == sorted([*SMALL, INDEX, *SHARDS])


def test_a_forced_download_is_not_for_local_files():
    with pytest.raises(ArgumentError, match="forbids the download that force_download=True asks"):
        hub.locate("org/name", force_download=True, local_files_only=True)


def test_a_cache_of_ones_own_is_used(served, whole, cache, tmp_path):
    folder = hub.locate("org/name", cache_dir=tmp_path / "own")
    assert folder.is_relative_to(tmp_path / "own") and not (cache / "models--org--name").exists()
    served.log.clear()
    hub.locate("org/name", cache_dir=tmp_path / "own")
    assert served.fetched == []


# In a separate process


def run(served, cache, code, *, stream=subprocess.PIPE, **environment):
    """Run code with warnings as errors in a process that only its environment leads to the hub."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from gptj import hub; {code}"],
        env={**os.environ, **served.environment(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=stream,
        text=True,
    )


def test_the_environment_says_where_the_hub_and_its_cache_are(served, tmp_path):
    code = "print(hub.locate('org/private'))"
    done = run(served, tmp_path / "home", code, HF_TOKEN="secret")
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home" / "hub")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "home" / "hub")}
    assert run(served, tmp_path / "elsewhere", code, **offline).stdout == done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("disabled", "is_shown"), [({}, True), ({"HF_HUB_DISABLE_PROGRESS_BARS": "1"}, False)]
)
def test_a_terminal_shows_progress_unless_it_is_disabled(served, cache, disabled, is_shown):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    run(served, cache, "hub.locate('old')", stream=theirs, **disabled)
    os.close(theirs)
    assert ("100%" in read_all(ours)) == is_shown


def read_all(terminal):
    """Return what was written to the other end of a terminal that is closed by now."""
    parts = []
    try:
        while part := os.read(terminal, 65536):
            parts.append(part)
    except OSError:  # Linux's way of saying that nobody writes any more
        pass
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_model_comes_from_a_revision_of_the_hub(backend, tmp_path, monkeypatch):
    revisions = {"main": FORMATS / "bin", "float16": FORMATS / "bin_fp16"}
    with serve({"org/name": revisions}) as running:
        connect(monkeypatch, running, tmp_path / "cache")
        model = gptj.load("org/name@float16", backend=backend.name, dtype="float32")
    local = gptj.load(FORMATS / "bin_fp16", backend=backend.name, dtype="float32")
    name = "transformer.h.0.attn.q_proj.weight"
    found, expected = (backend.dump_params(each)[name].read() for each in (model, local))
    assert (found == expected).all()
