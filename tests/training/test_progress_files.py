"""What a training's checkpoint says of its progress: taken whole, or one error."""

import json

import pytest

from gptj.errors import CheckpointError
from gptj.training.checkpoints import read_progress

pytestmark = pytest.mark.neutral

PROGRESS = {"step": 5, "model": "demo", "data": "0a", "settings": {"seed": 0}, "backend": "torch"}


def read(folder, text):
    (folder / "training.json").write_text(text, encoding="utf-8")
    return read_progress(folder)


def test_a_whole_file_is_read(tmp_path):
    assert vars(read(tmp_path, json.dumps(PROGRESS))) == PROGRESS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"a":' * 10_000,
        *(json.dumps(PROGRESS | {name: []}) for name in PROGRESS),
        json.dumps(PROGRESS | {"step": 10**400}),
        json.dumps(PROGRESS | {"step": -1}),
        json.dumps(PROGRESS | {"step": True}),
        json.dumps(PROGRESS | {"step": float("nan")}),
        json.dumps(PROGRESS | {"more": 1}),
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_file_is_named(text, tmp_path):
    with pytest.raises(CheckpointError, match=r"training\.json is damaged.*Remove the folder"):
        read(tmp_path, text)
