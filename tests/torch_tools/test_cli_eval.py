"""``gptj eval``: tasks in a folder of one's own, without a network."""

import json

import pytest
from click.testing import CliRunner
from lm_eval.tasks import TaskManager

import gptj
from gptj.cli import main
from harness_tasks import KINDS, write_tasks

pytestmark = pytest.mark.frameworks

READ = TaskManager.__init__
SMALL = {"n_embd": 32, "n_layer": 1, "n_head": 4, "rotary_dim": 4, "n_positions": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    gptj.init(gptj.GPTJConfig(**SMALL), path, seed=1)
    return path


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path)


def call(*options):
    return CliRunner().invoke(main, ["eval", *map(str, options)])


def test_a_table_shows_the_scores_and_a_file_has_them(folder, tasks, tmp_path):
    names = ",".join(KINDS)
    output = tmp_path / "scores.json"
    result = call(
        *(folder, "--tasks", names, "--include-path", tasks, "--limit", 2, "--backend", "torch"),
        *("--output", output, "--max-length", 32, "--batch-size", 2, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in KINDS)
    found = json.loads(output.read_text(encoding="utf-8"))
    assert {*found["results"]} == {*KINDS}
    assert (found["config"]["max_length"], found["config"]["limit"]) == (32, 2)


def test_json_is_all_that_is_printed(folder, tasks):
    result = call(folder, "--tasks", "tiny_choice", "--include-path", tasks, "--json")
    assert result.exit_code == 0, result.output
    assert 0 <= json.loads(result.stdout)["results"]["tiny_choice"]["acc,none"] <= 1


def test_a_task_without_its_data_is_one_line_before_a_model_is_loaded(tasks):
    (tasks / "rows.jsonl").unlink()
    result = call("no-such-model", "--tasks", "tiny_choice", "--include-path", tasks)
    assert result.exit_code == 1
    assert result.stderr.startswith("gptj: The data of 'tiny_choice' cannot be read: ")
    assert len(result.stderr.splitlines()) == 1


WRONG = {
    "output_type": ({"output_type": "multiple_choise"}, "ValueError: Got invalid output_type"),
    "data": ({"dataset_path": None}, "TypeError: expected str"),
    "split": ({"test_split": "validation"}, "KeyError: 'validation'"),
    "column": ({"doc_to_text": "{{nothing}}"}, "UndefinedError: 'nothing' is undefined"),
    "template": ({"doc_to_text": "{{text"}, "TemplateSyntaxError: unexpected end of template"),
    "field": ({"doc_to_texxt": "x"}, "unexpected keyword argument 'doc_to_texxt'"),
    "aggregation": (
        {"metric_list": [{"metric": "acc", "aggregation": "meen", "higher_is_better": True}]},
        "no such aggregation for the metric 'acc'",
    ),
    "examples": ({"num_fewshot": 2, "fewshot_split": "train"}, "KeyError: 'train'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_task_that_cannot_be_used_is_one_line_before_a_model_is_loaded(tasks, case):
    fields, message = WRONG[case]
    path = tasks / "tiny_choice.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    result = call("no-such-model", "--tasks", path, "--include-path", tasks)
    assert result.exit_code == 1
    (line,) = (each for each in result.stderr.splitlines() if each.startswith("gptj: "))
    assert line.startswith("gptj: lm-eval cannot use the task ") and message in line
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("text", ["task: [", "- 1"], ids=["no YAML", "a list"])
def test_a_file_that_is_no_task_is_one_line(tasks, text):
    (tasks / "tiny_choice.yaml").write_text(text)
    result = call("no-such-model", "--tasks", tasks / "tiny_choice.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith("gptj: lm-eval cannot use the task ")


@pytest.mark.parametrize("limit", [0, -1, 2.5])
def test_a_limit_without_a_meaning_is_refused(folder, tasks, limit):
    result = call(folder, "--tasks", "tiny_choice", "--include-path", tasks, f"--limit={limit}")
    assert result.exit_code == 2
    assert "--limit must be a whole number, or between 0 and 1" in result.stderr


def test_an_unknown_task_is_one_line_with_the_nearest_name(monkeypatch, folder, tasks):
    monkeypatch.setattr("lm_eval.tasks.TaskManager.__init__", only_own_tasks)
    result = call(folder, "--tasks", "tiny_choise", "--include-path", tasks)
    assert result.exit_code == 2
    assert "gptj: lm-eval has no task 'tiny_choise'. Did you mean 'tiny_choice'?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def only_own_tasks(manager, include_path, include_defaults=True):
    """Read the tasks of a folder, and not the thousands of lm-eval's own, which take a minute."""
    READ(manager, include_path=include_path, include_defaults=False)
