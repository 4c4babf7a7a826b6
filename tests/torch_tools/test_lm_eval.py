"""lm-eval on our models: the same scores as its own class finds for transformers' GPT-J."""

import json
from importlib.metadata import entry_points

import pytest
import transformers
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

import gptj
from gptj.errors import ArgumentError, DataError, UnsupportedFeature
from gptj.integrations.harness_requests import HarnessRequests
from gptj.integrations.lm_eval import GPTJ, Tasks, evaluate, table
from harness_tasks import KINDS, ROWS, write_tasks

pytestmark = pytest.mark.frameworks

SMALL = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}
LONG = "def f(x):\n    return x + 1\n" * 20
PAIRS = [
    ("def f(", "x):"),
    ("", "import os"),
    ("", "<|endoftext|>import os"),
    ("a = ", "1"),
    ("x  ", " = 3"),
    (LONG, "print(1)"),
    ("import numpy as", " np"),
    ("import numpy as", " pd"),
]
TEXTS = [("import os\n",), (LONG,), ("",), ("x",)]
WRITING = [
    ("def f(x):", {"until": ["\n\n"], "max_gen_toks": 20}),
    ("class A", {"until": "(", "do_sample": False, "temperature": 0.7, "max_gen_toks": 20}),
    ("import os", {"until": [], "max_gen_toks": 20, "do_sample": False}),
    (LONG, {"until": ["zzz"], "max_gen_toks": 20}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model whose texts are not all alike."""
    path = tmp_path_factory.mktemp("model")
    gptj.init(gptj.GPTJConfig(**SMALL, initializer_range=0.3), path, seed=1)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    return GPTJ(folder, backend="torch", batch_size=3)


@pytest.fixture(scope="module")
def theirs(folder):
    """Return their class with their model, at its most exact.

    Its softmax in float32 is off by 7e-5, and its cache of logits takes those of other places where
    two windows of a text that repeats itself are equal and score different numbers of tokens.
    """
    return HFLM(
        pretrained=transformers.AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        batch_size=3,
        softmax_dtype="float64",
        logits_cache=False,
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return Tasks(list(KINDS), write_tasks(tmp_path_factory.mktemp("tasks")))


def instances(kind, arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=given, idx=index)
        for index, given in enumerate(arguments)
    ]


def test_pairs_have_their_log_probabilities(ours, theirs):
    requests = instances("loglikelihood", PAIRS)
    found, expected = ours.loglikelihood(requests), theirs.loglikelihood(requests)
    for (ours_one, greedy), (theirs_one, theirs_greedy) in zip(found, expected, strict=True):
        assert ours_one == pytest.approx(theirs_one, abs=1e-4)
        assert greedy is theirs_greedy


def test_whole_texts_have_their_log_probabilities(ours, theirs):
    requests = instances("loglikelihood_rolling", TEXTS)
    found = ours.loglikelihood_rolling(requests)
    assert found == pytest.approx(theirs.loglikelihood_rolling(requests), rel=1e-6, abs=1e-4)


def test_what_is_written_is_what_theirs_writes(ours, theirs):
    requests = instances("generate_until", WRITING)
    found = ours.generate_until(requests)
    assert found == theirs.generate_until(requests)
    assert len({*found}) == len(WRITING)


def test_every_kind_of_task_has_their_scores(ours, theirs, tasks):
    found = evaluate(ours, tasks, bootstrap_iters=0)["results"]
    expected = evaluate(theirs, tasks, bootstrap_iters=0)["results"]
    assert {*found} == {*KINDS}
    for name, scores in expected.items():
        numbers = {key: value for key, value in scores.items() if isinstance(value, float)}
        assert numbers
        for key, value in numbers.items():
            assert found[name][key] == pytest.approx(value, rel=1e-4), (name, key)


def test_a_table_has_every_task_and_the_settings_say_what_ran(ours, tasks):
    found = evaluate(ours, tasks, limit=1, bootstrap_iters=0)
    assert all(name in table(found) for name in KINDS)
    assert found["config"]["model_backend"] == "torch"
    assert found["n-samples"]["tiny_choice"] == {"original": len(ROWS), "effective": 1}


def test_a_name_and_a_line_of_arguments_are_enough(folder, tasks, ours):
    arguments = f"pretrained={folder},backend=torch,max_length=32,dtype=float32"
    found = simple_evaluate(
        "gptj",
        model_args=arguments,
        tasks=tasks.names,
        task_manager=tasks,
        batch_size=2,
        device="cpu",
        bootstrap_iters=0,
        log_samples=False,
    )
    assert found["config"]["max_length"] == 32
    expected = evaluate(ours, tasks, bootstrap_iters=0)["results"]["tiny_likelihood"]
    key = "perplexity,none"
    assert found["results"]["tiny_likelihood"][key] == pytest.approx(expected[key], rel=1e-4)


def test_the_model_is_registered_and_announced():
    assert get_model("gptj") is GPTJ
    announced = [point for point in entry_points(group="lm_eval.models") if point.name == "gptj"]
    assert all(point.load() is GPTJ for point in announced)


def test_a_cache_answers_what_was_asked_before(ours, tasks, tmp_path, monkeypatch):
    def run():
        return simple_evaluate(
            ours,
            tasks=tasks.names,
            task_manager=tasks,
            use_cache=str(tmp_path / "cache"),
            bootstrap_iters=0,
            log_samples=False,
        )["results"]

    first = run()
    for kind in ("log_likelihoods", "rolling_log_likelihoods", "continuations"):
        monkeypatch.delattr(HarnessRequests, kind)
    assert run() == first


def test_a_model_that_is_loaded_takes_no_options_of_loading(folder):
    model = gptj.load(folder, backend="torch")
    assert GPTJ(model).model is model
    with pytest.raises(ArgumentError, match=r"loaded already, so 'dtype' would have no effect"):
        GPTJ(model, dtype="bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": "auto"}, "Batch sizes are not found out"),
        ({"batch_size": "many"}, "batch_size must be a number, 1 or more; found 'many'"),
        ({"max_length": 65}, "max_length must be 1 to n_positions = 64; found 65"),
        ({"parallelize": True}, "parallelize"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_honoured_is_refused(folder, options, message):
    with pytest.raises(ArgumentError, match=message):
        GPTJ(folder, backend="torch", **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(ArgumentError, match=r"a model of this package; found a dict"):
        GPTJ({})


def test_another_head_and_a_chat_template_are_refused(folder, ours):
    classifier = gptj.load(folder, backend="torch", head="sequence_classification")
    with pytest.raises(UnsupportedFeature, match="language-model head"):
        GPTJ(classifier)
    with pytest.raises(UnsupportedFeature, match="no chat template"):
        ours.apply_chat_template([])


def test_data_that_is_not_there_is_one_error(tmp_path):
    write_tasks(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"The data of 'tiny_choice' cannot be read: "):
        Tasks(["tiny_choice"], tmp_path)


def test_a_file_names_a_task(tmp_path):
    path = write_tasks(tmp_path) / "tiny_choice.yaml"
    assert list(Tasks([str(path)], tmp_path).loaded["tasks"]) == ["tiny_choice"]


def test_the_results_are_json(ours, tasks):
    assert json.loads(json.dumps(evaluate(ours, tasks, limit=1, bootstrap_iters=0)))
