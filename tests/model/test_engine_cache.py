"""Models converted for an engine: once per content, whole or not there."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from gptj.errors import CheckpointError
from gptj.model.config import GPTJConfig
from gptj.model.engine_cache import conversion_key, converted
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor

pytestmark = pytest.mark.neutral

SIZES = {"vocab_size": 16, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 8}


def small(**changes):
    """Return a configuration, and tensors that count."""
    config = GPTJConfig(**{**SIZES, "rotary_dim": 2, **changes})
    tensors = {
        name: LazyTensor.of(np.arange(parameter.size, dtype=np.float32).reshape(parameter.shape))
        for name, parameter in parameter_table(config).items()
    }
    return config, tensors


class Writer:
    """Writes one file and counts how often; fails where `error` is set."""

    def __init__(self, error=None, before=lambda: None):
        self.calls, self.error, self.before = 0, error, before

    def __call__(self, folder, tensors):
        self.calls += 1
        self.before()
        (folder / "model.bin").write_bytes(b"".join(t.read().tobytes() for t in tensors.values()))
        if self.error:
            raise self.error


def convert(folder, writer, tensors=None, head="causal_lm", details=None, **changes):
    config, usual = small(**changes)
    given = usual if tensors is None else tensors
    return converted("engine", config, head, given, writer, details or {}, folder)


def key(tensors=None, head="causal_lm", details=None, **changes):
    config, usual = small(**changes)
    return conversion_key(config, head, usual if tensors is None else tensors, details or {})


def test_a_model_is_converted_once(tmp_path):
    writer = Writer()
    first = convert(tmp_path, writer)
    assert convert(tmp_path, writer) == first
    assert writer.calls == 1
    numbers = b"".join(tensor.read().tobytes() for tensor in small()[1].values())
    assert (first / "model.bin").read_bytes() == numbers
    assert first.parent == tmp_path / "engine"


def test_any_other_number_is_another_model(tmp_path):
    _, tensors = small()
    for name, tensor in tensors.items():
        changed = tensor.read().copy()
        changed.flat[-1] += 1
        assert key({**tensors, name: LazyTensor.of(changed)}) != key(), name


def test_a_tensor_counts_with_its_dtype_its_shape_and_its_name():
    _, tensors = small()
    name, other = "transformer.ln_f.weight", "transformer.ln_f.bias"
    values = np.ones(16, np.float32)
    given = {**tensors, name: LazyTensor.of(values)}
    half = values.view(np.float16)
    assert key({**given, name: LazyTensor.of(half)}) != key(given)
    assert key({**given, name: LazyTensor.of(half.view(ml_dtypes.bfloat16))}) != key(
        {**given, name: LazyTensor.of(half)}
    )
    assert key({**given, name: LazyTensor.of(values.reshape(4, 4))}) != key(given)
    assert key({**given, name: given[other], other: given[name]}) != key(given)


def test_the_order_of_a_table_and_of_memory_do_not_count():
    _, tensors = small()
    turned = {
        name: LazyTensor.of(np.asfortranarray(tensor.read()))
        for name, tensor in reversed(tensors.items())
    }
    assert key(turned) == key()


@pytest.mark.parametrize(
    "other",
    [{"layer_norm_epsilon": 0.01}, {"rotary_dim": None}, {"head": "base"}, {"details": {"a": 1}}],
    ids=str,
)
def test_configuration_head_and_details_count(other):
    assert key(small()[1], **other) != key()


def test_what_fails_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="in the middle"):
        convert(tmp_path, Writer(RuntimeError("in the middle")))
    assert not (tmp_path / "engine").exists()


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_engine_cache import Writer, convert

def wait():
    print("converting", flush=True)
    time.sleep(60)

convert(sys.argv[1], Writer(before=wait))
"""


def test_a_program_that_is_killed_leaves_no_half_of_a_model(tmp_path):
    here = __file__.rpartition("/")[0]
    command = [sys.executable, "-c", KILLED, str(tmp_path), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "converting\n"
        program.send_signal(signal.SIGKILL)
    (left,) = (tmp_path / "engine").iterdir()
    assert left.name.startswith(".saving-")
    found = convert(tmp_path, Writer())
    assert [*(tmp_path / "engine").iterdir()] == [found]


def test_of_two_programs_that_convert_the_same_one_is_taken(tmp_path):
    earlier = Writer()
    later = Writer(before=lambda: convert(tmp_path, earlier))
    assert convert(tmp_path, later) == convert(tmp_path, earlier)
    assert (earlier.calls, later.calls) == (1, 1)
    assert len([*(tmp_path / "engine").iterdir()]) == 1


@pytest.mark.parametrize("damage", ["cut", "bytes", "missing", "contents"])
def test_a_damaged_model_is_converted_anew(damage, tmp_path, caplog):
    found = convert(tmp_path, Writer())
    whole = (found / "model.bin").read_bytes()
    if damage == "cut":
        (found / "model.bin").write_bytes(whole[:-1])
    elif damage == "bytes":
        (found / "model.bin").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        os.utime(found / "model.bin", ns=(0, 0))  # a clock may be too coarse to tell
    elif damage == "missing":
        (found / "model.bin").unlink()
    else:
        (found / "contents.json").write_text("[1")
    (found / "stranger").write_text("")
    again = Writer()
    assert convert(tmp_path, again) == found
    assert again.calls == 1
    assert f"{found} does not hold what was written there: converting again." in caplog.text
    assert (found / "model.bin").read_bytes() == whole
    assert sorted(path.name for path in found.iterdir()) == ["contents.json", "model.bin"]


def test_a_copy_with_another_time_is_the_same_model(tmp_path):
    found = convert(tmp_path, Writer())
    os.utime(found / "model.bin", ns=(0, 0))
    again = Writer()
    assert convert(tmp_path, again) == found
    assert again.calls == 0


def test_a_model_with_its_times_is_not_read_again(tmp_path, monkeypatch):
    convert(tmp_path, Writer())
    monkeypatch.setattr("gptj.model.engine_cache._digest", lambda path: pytest.fail("was read"))
    convert(tmp_path, Writer())


def test_the_folder_says_what_it_holds(tmp_path):
    found = convert(tmp_path, Writer(), details={"dtype": "float32"})
    contents = json.loads((found / "contents.json").read_text())
    written = (found / "model.bin").read_bytes()
    assert contents == {
        "engine": "engine",
        "head": "causal_lm",
        "details": {"dtype": "float32"},
        "files": {
            "model.bin": {
                "size": len(written),
                "time": (found / "model.bin").stat().st_mtime_ns,
                "digest": hashlib.blake2b(written, digest_size=16).hexdigest(),
            }
        },
    }


def test_it_is_where_caches_are_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert convert(None, Writer()).parent == tmp_path / "gptj" / "engines" / "engine"


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file.*engine_cache.*XDG_CACHE_HOME"):
        convert(tmp_path / "file", Writer())
