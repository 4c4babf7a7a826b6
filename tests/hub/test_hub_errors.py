"""What is said when the hub does not give what was asked for, and what the cache still gives."""

from contextlib import suppress

import pytest
from huggingface_hub import constants

from gptj import hub
from gptj.errors import CheckpointError
from gptj.hub import download as hub_files
from hub_server import INDEX, SHARDS, SMALL, Hub, connect, write, write_index

pytestmark = pytest.mark.neutral


@pytest.fixture
def cut_off(served, cache, monkeypatch):
    """Call it with a way to lose the connection, which may be the name of an argument."""

    def cut(how):
        away = Hub({}, endpoint="http://127.0.0.1:9")  # where nobody listens
        served.broken = 503 if how == "status 503" else 0
        served.page = b"<html>Please log in</html>" if how == "a page" else b""
        if how in ("refused", "HF_HUB_OFFLINE"):
            connect(monkeypatch, away, cache, offline=how == "HF_HUB_OFFLINE")
        return {"local_files_only": True} if how == "local_files_only" else {}

    return cut


def refusal(name, **options):
    """Return the message of the error that locating gives."""
    with pytest.raises(CheckpointError) as caught:
        hub.locate(name, **options)
    return str(caught.value)


# What a repository may not have


def test_a_repository_without_weights_is_refused_by_its_files(served):
    message = refusal("org/name")
    assert "'org/name' on the hub has no weights to read ('model.safetensors', 'pytorch_" in message
    assert "It has '.gitattributes', 'README.md', 'config.json'" in message
    assert served.fetched == []


def test_of_many_files_some_are_named(served, repository):
    write(repository, [f"step/{n}.npz" for n in range(30)])
    assert refusal("org/name").endswith("'step/19.npz' and 19 more.")


def test_a_repository_with_nothing_to_read_is_refused(served, repository):
    message = refusal("org/name", subfolder="no", weights=False)
    assert "'org/name' on the hub has no configuration and no tokenizer in 'no'." in message


@pytest.mark.parametrize("file", ["../x.bin", "a/b.bin", "..", ".", "", "/etc/x"])
def test_a_shard_outside_the_folder_is_refused_before_any_weights_come(served, sharded, file):
    write_index(sharded, [file, SHARDS[0]])
    assert f"{INDEX} names files outside its folder: {file!r}." in refusal("org/name")
    assert served.fetched == sorted([*SMALL, INDEX])


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_files_is_refused(served, sharded, content):
    (sharded / INDEX).write_text(content)
    assert f"{INDEX} has no weight_map, so it names no files." in refusal("org/name")


def test_a_shard_that_the_revision_does_not_have_is_named(served, sharded):
    (sharded / SHARDS[1]).unlink()
    assert f"has no {SHARDS[1]!r}, which {INDEX} names. It has " in refusal("org/name")
    assert served.fetched == sorted([*SMALL, INDEX])


# Without a connection


WAYS = {
    "refused": "asking the hub at http://127.0.0.1:9 ended with Conn",
    "status 503": "answered with status 503.",
    "a page": "ended with JSONDecodeError: ",
    "HF_HUB_OFFLINE": "the hub was not asked, because HF_HUB_OFFLINE is set.",
    "local_files_only": "the hub was not asked, because of local_files_only=True.",
}
"""How the hub cannot be had -> what the error says of it."""


@pytest.mark.parametrize("kind", ["whole", "sharded"])
@pytest.mark.parametrize("how", WAYS)
def test_what_is_cached_needs_no_connection(served, kind, how, cut_off, request):
    request.getfixturevalue(kind)
    folder = hub.locate("org/name")
    assert hub.locate("org/name", **cut_off(how)) == folder


@pytest.mark.parametrize("how", WAYS)
def test_without_a_connection_the_error_says_why_and_what_to_run(cut_off, how):
    message = refusal("org/name@float16", **cut_off(how))
    assert "There is no folder or file 'org/name@float16' here, nor is it in the cache" in message
    assert WAYS[how] in message
    assert message.endswith("run with a connection: hf download org/name --revision float16")


def test_a_cached_private_repository_needs_no_token(served):
    folder = hub.locate("org/private", token="secret")
    assert hub.locate("org/private") == folder


def test_offline_missing_weights_are_named(served, whole, cache):
    hub.locate("org/name", weights=False)
    message = refusal("org/name", local_files_only=True)
    assert (
        f"The cache {cache} has some files of 'org/name', but not its weights, one of " in message
    )
    assert "'model.safetensors', 'pytorch_model.bin', 'flax_model.msgpack', 'tf_m" in message
    assert message.endswith("Run with a connection: hf download org/name")


def test_offline_a_missing_shard_is_named_with_what_to_run(served, sharded, tmp_path):
    write_index(write(sharded / "a", SHARDS), SHARDS)
    where = {"cache_dir": tmp_path / "own", "subfolder": "a"}
    (hub.locate("org/name@main", **where) / SHARDS[1]).unlink()
    message = refusal("org/name@main", **where, local_files_only=True)
    assert f"has some files of 'org/name@main', but not 'a/{SHARDS[1]}'; " in message
    command = f"hf download org/name a/{SHARDS[1]} --revision main --cache-dir"
    assert f"{command} {tmp_path / 'own'}" in message


def test_offline_an_empty_folder_lacks_its_configuration(served, whole):
    hub.locate("org/name", weights=False)
    message = refusal("org/name", subfolder="b", weights=False, local_files_only=True)
    assert message.endswith("Run with a connection: hf download org/name b/config.json")


def test_a_forced_download_needs_a_connection(served, whole, cut_off):
    hub.locate("org/name")
    cut_off("refused")
    message = refusal("org/name", force_download=True)
    assert message.startswith("'org/name' cannot be downloaded again; asking the hub")
    assert message.endswith("with a connection, or without force_download=True.")


# What the hub refuses


def test_a_repository_that_is_not_there_is_named(served):
    with pytest.raises(CheckpointError) as caught:
        hub.locate("org/nmae")
    assert f"the hub at {served.endpoint} has no repository 'org/nmae'." in str(caught.value)
    assert type(caught.value.__cause__).__name__ == "RepositoryNotFoundError"


def test_a_name_that_no_repository_can_have_is_refused(served):
    assert "HFValidationError: Cannot have -- or .. in repo_id" in refusal("a--b")


def test_a_revision_that_is_not_there_is_named_with_those_that_are(served, whole):
    hub.locate("org/name")
    with pytest.raises(CheckpointError) as caught:
        hub.locate("org/name@flaot16")
    assert f"the hub at {served.endpoint} has no revision 'flaot16' of it." in str(caught.value)
    assert str(caught.value).endswith("It has 'main', 'float16'. Did you mean 'float16'?")
    assert type(caught.value.__cause__).__name__ == "RevisionNotFoundError"


@pytest.mark.parametrize("token", [None, False, "wrong"])
def test_a_private_repository_needs_its_token(served, token):
    message = refusal("org/private", token=token)
    assert "answered with status 401: 'org/private' is private and the token does not" in message
    assert message.endswith("If it is private, pass token=..., or run `hf auth login`.")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 403)])
def test_a_gated_repository_needs_its_token(served, token, status):
    message = refusal("org/gated", token=token)
    assert f"answered with status {status}: 'org/gated' is gated." in message
    assert f"Ask for access at {served.endpoint}/org/gated, then pass token=..., or" in message


@pytest.mark.parametrize("name", ["org/private", "org/gated"])
def test_the_right_token_opens_a_repository(served, name):
    hub.locate(name, token="secret")
    assert "model.safetensors" in served.fetched


def test_the_token_of_the_environment_opens_a_repository(served, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.locate("org/private")
    assert "model.safetensors" in served.fetched


# What goes wrong on the way


@pytest.fixture
def hasty(monkeypatch):
    """Downloads in small pieces, and no rest before one is tried again."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_download_that_breaks_off_goes_on_where_it_was(served, whole, hasty):
    served.cuts["pytorch_model.bin"] = [700, 600]
    for _ in "12":  # some releases of huggingface_hub go on at once, others when called again
        with suppress(CheckpointError):
            hub.locate("org/name")
    folder = hub.locate("org/name")
    asked = [e.range for e in served.log if e.file == "pytorch_model.bin" and e.method == "GET"]
    starts = [int(each.removeprefix("bytes=").rstrip("-")) for each in asked[1:]]
    assert asked[0] is None and 0 < starts[0] < starts[1] and len(starts) == 2
    assert (folder / "pytorch_model.bin").read_bytes() == (whole / "pytorch_model.bin").read_bytes()


def test_a_download_that_always_breaks_off_is_an_error_and_can_be_repeated(served, whole, hasty):
    served.cuts["pytorch_model.bin"] = [10] * 6
    message = refusal("org/name")
    assert "'org/name' could not be downloaded: asking the hub at" in message
    assert message.endswith("Load it again; the files that came whole are kept in the cache.")
    served.cuts.clear()
    served.log.clear()
    hub.locate("org/name")
    assert served.fetched == ["pytorch_model.bin"]


def test_a_file_of_another_size_than_promised_is_an_error(served, whole):
    served.sizes["pytorch_model.bin"] = 5000
    assert "file should be of size 5000 but has size" in refusal("org/name")


def test_a_file_with_other_bytes_than_promised_is_an_error_and_does_not_stay(served, whole):
    content = (whole / "pytorch_model.bin").read_bytes()
    served.swapped["pytorch_model.bin"] = content[:-1] + b"?"
    assert "pytorch_model.bin came damaged: its SHA-256 is " in refusal("org/name")
    served.swapped.clear()
    assert (hub.locate("org/name") / "pytorch_model.bin").read_bytes() == content


def test_a_revision_that_changes_while_it_is_downloaded_is_an_error(served, whole, monkeypatch):
    ask = "gptj.hub.download._ask"
    listing = hub_files._ask(hub.Source("org/name"))
    monkeypatch.setattr(ask, lambda source: listing)
    (whole / "config.json").write_text("new")
    assert "'org/name' changed while it was downloaded." in refusal("org/name")
