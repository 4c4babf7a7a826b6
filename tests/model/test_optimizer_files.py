"""The file of an optimizer's state: what it holds, what is refused, and that it is never half."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gptj.checkpoint.optimizer_file import FILE_NAME, read_optimizer, write_optimizer
from gptj.errors import CheckpointError
from gptj.spec.optimizer import AdamState
from gptj.spec.tensors import LazyTensor

pytestmark = pytest.mark.neutral

SHAPES = {"lm_head.bias": (5,), "lm_head.weight": (5, 3)}
BETAS, EPSILON = (0.9, 0.95), 1e-7


def moments(seed, shapes=SHAPES):
    generator = np.random.Generator(np.random.PCG64(seed))
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def state(first, second, step=3, betas=BETAS, epsilon=EPSILON):
    handles = [{n: LazyTensor.of(array) for n, array in m.items()} for m in (first, second)]
    return AdamState(step, *handles, betas, epsilon)


@pytest.fixture
def file(tmp_path):
    """A file as it should be."""
    write_optimizer(tmp_path, state(moments(1), moments(2)))
    return tmp_path / FILE_NAME


def metadata(**changes):
    """Return the metadata of `file`, with changes; None leaves one out."""
    found = {
        "version": "1",
        "step": "3",
        "betas": json.dumps(BETAS),
        "epsilon": json.dumps(EPSILON),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def test_the_file_has_pytorchs_names_of_the_moments(file):
    tensors = load_file(file)
    first, second = moments(1), moments(2)
    expected = {f"exp_avg.{name}": array for name, array in first.items()}
    expected |= {f"exp_avg_sq.{name}": array for name, array in second.items()}
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize("betas", [BETAS, None])
@pytest.mark.parametrize("epsilon", [EPSILON, None])
def test_a_round_trip_returns_what_was_written(tmp_path, betas, epsilon):
    write_optimizer(tmp_path / "new", state(moments(1), moments(2), 7, betas, epsilon))
    found = read_optimizer(tmp_path / "new", SHAPES)
    assert (found.step, found.betas, found.epsilon) == (7, betas, epsilon)
    for name in SHAPES:
        assert np.array_equal(found.first[name].read(), moments(1)[name])
        assert np.array_equal(found.second[name].read(), moments(2)[name])


def test_a_file_can_be_named_itself(file):
    assert read_optimizer(file, SHAPES).step == 3


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(CheckpointError, match=r"optimizer.safetensors is missing. Give the folder"):
        read_optimizer(tmp_path, SHAPES)


def test_a_file_is_no_folder_to_save_into(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="it is a file, not a folder"):
        write_optimizer(tmp_path / "taken", state(moments(1), moments(2)))


MISFITS = {
    "missing": ({**SHAPES, "new": (2,)}, r"Tensors 2 missing: exp_avg.new, exp_avg_sq.new\. Load"),
    "unexpected": ({"lm_head.bias": (5,)}, r"2 unexpected: exp_avg.lm_head.weight, exp_avg_sq"),
    "of another shape": (
        {**SHAPES, "lm_head.bias": (4,)},
        r"2 of another shape or dtype: exp_avg.lm_head.bias is float32 \(5,\), needed is float32 "
        r"\(4,\)",
    ),
    "many": (
        {f"h.{i}": (2,) for i in range(9)},
        r"18 missing: exp_avg\.h\.\* \(9\), ",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_are_named(file, misfit):
    shapes, message = MISFITS[misfit]
    with pytest.raises(CheckpointError, match=message):
        read_optimizer(file, shapes)


def test_moments_of_another_dtype_are_refused(file):
    tensors = {name: array.astype(np.float16) for name, array in load_file(file).items()}
    save_file(tensors, file, metadata())
    with pytest.raises(CheckpointError, match=r"4 of another shape or dtype: .* is float16 \(5,\)"):
        read_optimizer(file, SHAPES)


WRONG_METADATA = {
    "no version": ({"version": None}, "has version None, accepted is '1'"),
    "another version": ({"version": "2"}, "has version '2', accepted is '1'"),
    "no step": ({"step": None}, "does not say the optimizer's step: its metadata has None"),
    "no number": ({"step": "three"}, "does not say the optimizer's step: .* has 'three'"),
    "a negative step": ({"step": "-1"}, "step is -1, accepted is an integer from 0"),
    "a step that is true": ({"step": "true"}, "step is True, accepted is an integer from 0"),
    "a broken step": ({"step": "1.5"}, "step is 1.5, accepted is an integer from 0"),
    "one beta": ({"betas": "[0.9]"}, r"betas is \[0.9\], accepted is two numbers in \[0, 1\)"),
    "a beta of one": ({"betas": "[0.9, 1]"}, r"betas is \[0.9, 1\], accepted is two numbers"),
    "an infinite epsilon": ({"epsilon": "Infinity"}, "epsilon is inf, accepted is a number from 0"),
    "a deep nest": ({"epsilon": "[" * 100_000}, "does not say the optimizer's epsilon"),
}


@pytest.mark.parametrize("wrong", WRONG_METADATA)
def test_metadata_that_make_no_sense_are_refused(file, wrong):
    changes, message = WRONG_METADATA[wrong]
    save_file(load_file(file), file, metadata(**changes))
    with pytest.raises(CheckpointError, match=message):
        read_optimizer(file, SHAPES)


def test_a_file_without_metadata_is_refused(file):
    save_file(load_file(file), file)
    with pytest.raises(CheckpointError, match="version None"):
        read_optimizer(file, SHAPES)


def test_a_file_that_is_cut_anywhere_is_refused(file):
    content = file.read_bytes()
    for size in range(0, len(content), 7):
        file.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=FILE_NAME):
            read_optimizer(file, SHAPES)


def test_a_write_that_fails_leaves_the_old_file(file):
    def fail():
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    broken = {n: LazyTensor(s, np.dtype(np.float32), fail) for n, s in SHAPES.items()}
    with pytest.raises(CheckpointError, match=r"No space left .* What was there before is unchang"):
        write_optimizer(file.parent, AdamState(9, state(moments(1), {}).first, broken))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [FILE_NAME]
