"""``gptj predict``: it prints what the library predicts, and says what was wrong."""

import json
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from gptj.cli.predict import EXAMPLES
from gptj.training.serving_command import serving_command
from installed import NUMPY
from prediction_cases import ANSWERS, CLASSES, TEXTS, save_model

pytestmark = [pytest.mark.neutral, pytest.mark.usefixtures("models_are_loaded_once")]

NAMES = {0: "bad", 1: "so so", 2: "good"}
LONG = "w1 w2 w3 w4 w5 w6 w7 " * 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models of every kind, by the names of their folders."""
    path = tmp_path_factory.mktemp("models")
    several = {"id2label": NAMES, "problem_type": "multi_label_classification"}
    save_model(path / "one", CLASSES, num_labels=3, fields={"id2label": NAMES})
    save_model(path / "several", CLASSES, num_labels=3, fields=several)
    save_model(path / "number", CLASSES, num_labels=1, fields={"id2label": {0: "stars"}})
    save_model(path / "reader", ANSWERS)
    save_model(path / "writer", "causal_lm")
    save_model(path / "nameless", CLASSES, fields={"architectures": None})
    save_model(path / "headless", "base", fields={"architectures": None})
    return path


def invoke(*arguments, **options):
    """Run ``gptj predict`` in this process."""
    words = ["predict", "-b", NUMPY, *map(str, arguments)]
    return CliRunner().invoke(main, words, **options)


def printed(*arguments, **options):
    """Return the lines that a command which succeeds writes to standard output."""
    result = invoke(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def predicted(folder, texts=TEXTS, **options):
    """Return what the library predicts, as JSON holds it."""
    found = gptj.predict(texts, folder, backend=NUMPY, **options)
    return [json.loads(json.dumps(one.to_dict())) for one in found]


def parsed(lines):
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["one", "several", "number"])
def test_json_lines_are_the_librarys_classes(folders, name):
    assert parsed(printed(folders / name, *TEXTS, "--json")) == predicted(folders / name)


def test_json_lines_are_the_librarys_answers(folders):
    lines = printed(folders / "reader", "--question", "w5", *TEXTS, LONG, "--json", "--longest", 3)
    options = {"question": "w5", "longest": 3}
    assert parsed(lines) == predicted(folders / "reader", [*TEXTS, LONG], **options)


def test_the_table_shows_the_likeliest_label_of_every_text(folders):
    head, *rows = printed(folders / "one", *TEXTS)
    assert re.fullmatch(r"label +probability  text", head)
    for row, found in zip(rows, predicted(folders / "one"), strict=True):
        expected = [found["label"], f"{found['probability']:.4f}", json.dumps(found["text"])]
        assert re.split(r" {2,}", row) == expected


def test_the_table_shows_every_label_where_there_may_be_several(folders):
    _, *rows = printed(folders / "several", TEXTS[0])
    (found,) = predicted(folders / "several", TEXTS[:1])
    shown = [re.split(r" {2,}", row)[:2] for row in rows]
    assert shown == [[name, f"{value:.4f}"] for name, value in found["probabilities"].items()]


def test_the_table_shows_numbers_as_values(folders):
    head, row = printed(folders / "number", TEXTS[0])
    assert head.split() == ["label", "value", "text"]
    assert row.split()[:2] == [
        "stars",
        f"{predicted(folders / 'number')[0]['values']['stars']:.4f}",
    ]


def test_the_table_shows_answers_with_score_and_place(folders):
    head, row = printed(folders / "reader", LONG, "--question", "w5")
    (found,) = predicted(folders / "reader", [LONG], question="w5")
    assert head.split() == ["score", "place", "answer"]
    assert row.split()[:2] == [f"{found['score']:.4f}", f"{found['start']}-{found['end']}"]
    assert LONG[found["start"] : found["end"]] == found["answer"]


def test_texts_come_from_a_file_or_from_standard_input(folders, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    expected = printed(folders / "one", *TEXTS, "--json")
    assert printed(folders / "one", "--file", path, "--json") == expected
    assert printed(folders / "one", "--file", "-", "--json", input=path.read_text()) == expected
    (alone,) = parsed(printed(folders / "one", "-", "--json", input=TEXTS[0] + "\n"))
    assert (alone["text"], alone["label"]) == (TEXTS[0], json.loads(expected[0])["label"])


def test_long_texts_are_cut_only_where_that_is_asked_for(folders):
    result = invoke(folders / "one", LONG)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has 140 tokens, and a sequence holds at most 64" in result.stderr
    cut = parsed(printed(folders / "one", LONG, "--truncate", "--json"))
    assert cut == predicted(folders / "one", [LONG], truncate=True)


WRONG = {
    "no text": (["one"], 2, "There is no text. Give some"),
    "text and file": (["one", "w1", "--file", __file__], 2, "TEXT and --file exclude each other"),
    "a language model": (["writer", "w1"], 1, "use gptj generate"),
    "a head that nothing names": (["headless", "w1"], 2, "does not say which head the model has"),
    "no question": (["reader", "w1"], 2, "needs one: question=..., or --question"),
    "a question for classes": (["one", "w1", "--question", "w1"], 2, "'question' has no effect"),
    "missing model": (["nowhere/at/all", "w1"], 1, "neither an existing folder"),
    "empty": (["one", ""], 1, "Text 0 is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line_with_an_exit_code(folders, case):
    (name, *words), code, message = WRONG[case]
    result = invoke(folders / name, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_a_head_may_be_named(folders):
    (found,) = parsed(printed(folders / "nameless", "w1", "--head", CLASSES, "--json"))
    assert set(found["probabilities"]) == {"LABEL_0", "LABEL_1"}


def test_the_examples_run(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.txt").write_text("bad\n" * 3, encoding="utf-8")
    shutil.copytree(folders / "one", "my-classifier")
    shutil.copytree(folders / "reader", "my-reader")
    commands = re.findall(r"^ +(?:cat .*\| )?gptj predict (.*?)(?: >.*)?$", EXAMPLES, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command.replace(" --backend flax", ""))
        assert printed(*words, input="The boat is in the harbour.\n" * 100)


@pytest.mark.parametrize("head", [CLASSES, ANSWERS])
def test_what_a_training_says_of_its_result_runs(folders, head):
    folder = folders / {CLASSES: "one", ANSWERS: "reader"}[head]
    words = shlex.split(serving_command(folder, head))
    texts = {"Who wrote it?": "w1 w2", "It was written by Ada.": "w3 w4", "a text": "w5"}
    assert words[:2] == ["gptj", "predict"]
    assert printed(*(texts.get(word, word) for word in words[2:]))
