"""``gptj generate``: what it prints is what the library writes, and how it ends."""

import json
import re
import shlex
import shutil
import sys
from functools import cache

import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from gptj.cli.generate import EXAMPLES
from gptj.errors import ArgumentError
from gptj.model.generating import TextGeneration
from installed import NUMPY
from models import load as load_folder
from models import short_demo

pytestmark = [pytest.mark.neutral, pytest.mark.usefixtures("models_are_loaded_once")]

PROMPTS = ["import os", "def add(a, b):", "class A"]
LINES = "".join(prompt + "\n" for prompt in PROMPTS)
SPEED = r"new tokens: (\d+), seconds: \d+\.\d\d, tokens per second: \d+\.\d\n"


def invoke(*arguments, **options):
    """Run ``gptj generate`` with the short demo model for eight tokens, in this process."""
    words = ["generate", "-b", NUMPY, "-n", "8", *map(str, arguments)]
    return CliRunner().invoke(main, words, **options)


def printed(*arguments, **options):
    """Return what a command that succeeds writes to standard output."""
    result = invoke(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


@cache
def written(prompt, **options):
    """Return what the library writes after a prompt, or after several."""
    model = load_folder(NUMPY, short_demo())
    prompts = list(prompt) if isinstance(prompt, tuple) else prompt
    return model.generate_text(prompts, max_new_tokens=8, strip_prompt=True, **options)


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_the_text_is_the_librarys(how):
    assert printed(PROMPTS[0], how) == PROMPTS[0] + written(PROMPTS[0]) + "\n"


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_a_sampled_text_is_the_librarys(how):
    options = {"seed": 3, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    expected = written(PROMPTS[0], do_sample=True, **options)
    assert printed(PROMPTS[0], how, *words) == PROMPTS[0] + expected + "\n"


def test_a_seed_samples_repeatably():
    first, again, other = (printed(PROMPTS[0], "--seed", seed) for seed in (3, 3, 4))
    assert first == again
    assert len({first, other, printed(PROMPTS[0])}) == 3


def test_a_piece_is_printed_before_the_next_token_is_computed(monkeypatch):
    stream, seen = TextGeneration.stream_text, []

    def watched(self, prompt, **options):
        text = prompt
        for piece in stream(self, prompt, **options):
            seen.append((sys.stdout.buffer.getvalue().decode(), text))
            text += piece
            yield piece

    monkeypatch.setattr(TextGeneration, "stream_text", watched)
    printed(PROMPTS[0])
    assert len(seen) > 4
    assert all(shown == text for shown, text in seen)


def test_the_prompt_may_be_left_out():
    assert printed(PROMPTS[0], "--no-prompt") == written(PROMPTS[0]) + "\n"


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_a_text_ends_before_the_first_of_its_stops(how):
    whole = written(PROMPTS[0])
    stop = whole[5:8]
    text = printed(PROMPTS[0], "--no-prompt", how, "--stop", "never found", "--stop", stop)
    assert text == whole[: whole.index(stop)] + "\n"


def test_beams_come_at_the_end():
    expected = written(PROMPTS[1], num_beams=3, length_penalty=0.5)
    text = printed(PROMPTS[1], "--num-beams", 3, "--length-penalty", 0.5)
    assert text == PROMPTS[1] + expected + "\n"


def test_several_texts_stand_below_titles():
    first, second = written(PROMPTS[1], do_sample=True, seed=1, num_return_sequences=2)
    text = printed(PROMPTS[1], "-r", 2, "--seed", 1, "--no-prompt")
    assert text == f"=== 1 of 2 ===\n{first}\n=== 2 of 2 ===\n{second}\n"


def test_several_texts_are_sampled_unless_they_are_beams():
    beams = written(PROMPTS[1], num_beams=2, num_return_sequences=2)
    found = json.loads(printed(PROMPTS[1], "-r", 2, "--num-beams", 2, "--json"))
    assert found == {"prompt": PROMPTS[1], "texts": beams}
    hot = ("--temperature", 1000, "--top-k", 0)  # every token as likely as every other
    drawn = json.loads(printed(PROMPTS[1], "-r", 4, *hot, "--json"))["texts"]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_lines_of_a_file_give_json_lines_in_their_order(tmp_path, size):
    file = tmp_path / "prompts.txt"
    file.write_text(LINES, encoding="utf-8")
    text = printed("--file", file, "--batch-size", size)
    found = [json.loads(line) for line in text.splitlines()]
    assert found == [{"prompt": prompt, "text": written(prompt)} for prompt in PROMPTS]


def test_a_file_may_be_standard_input_without_a_last_line_end():
    lines = printed("--file", "-", input=LINES.removesuffix("\n")).splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == PROMPTS


def test_standard_input_is_one_prompt_with_all_its_lines():
    found = json.loads(printed("-", "--json", input=LINES))
    assert found == {"prompt": LINES, "text": written(LINES)}


@pytest.mark.parametrize("how", ["--stream", "--no-stream", "--json"])
def test_the_speed_counts_the_tokens_that_were_written(how):
    result = invoke("A", how)  # continues with AAAA, which would be fewer tokens if encoded anew
    assert re.fullmatch(SPEED, result.stderr)[1] == "8"


def test_the_speed_counts_the_texts_of_all_prompts():
    result = invoke("--file", "-", "-r", 2, "--seed", 1, input=LINES)
    assert re.fullmatch(SPEED, result.stderr)[1] == str(8 * 2 * len(PROMPTS))


def test_a_quiet_command_says_nothing_on_standard_error():
    assert invoke(PROMPTS[0], "--quiet").stderr == ""


def test_characters_of_several_bytes_are_printed_whole():
    ids = gptj.load_tokenizer("demo").encode("日")
    assert len(ids) > 1
    bias = [[ids[: end + 1], 1000.0 * (end + 1)] for end in range(len(ids))]
    options = ("--set", f"sequence_bias={json.dumps(bias)}", "-n", 3 * len(ids))
    assert printed("x = ", *options) == "x = 日日日\n"
    assert json.loads(printed("x = ", "--json", *options))["text"] == "日日日"


def test_any_other_option_can_be_set_in_json_or_as_text():
    options = ("--set", "typical_p=0.8", "--set", "seed=4", "--set", "filter_order=filters_first")
    expected = written(
        PROMPTS[0], do_sample=True, typical_p=0.8, seed=4, filter_order="filters_first"
    )
    assert printed(PROMPTS[0], "--no-prompt", *options) == expected + "\n"


def test_contrastive_search_takes_its_candidates_without_sampling():
    expected = written(PROMPTS[0], penalty_alpha=0.6, top_k=4)
    options = ("--top-k", 4, "--set", "penalty_alpha=0.6")
    assert printed(PROMPTS[0], "--no-prompt", *options) == expected + "\n"


def test_max_length_takes_the_place_of_the_usual_number_of_tokens():
    words = ["generate", "A", "-b", NUMPY, "--set", "max_length=5", "--json"]
    result = CliRunner().invoke(main, words)
    assert re.fullmatch(SPEED, result.stderr)[1] == "4"


def test_text_is_greedy_where_the_configuration_asks_for_sampling(tmp_path):
    shutil.copytree(short_demo(), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    task = {"text-generation": {"do_sample": True, "temperature": 5.0, "max_length": 50}}
    content = json.loads(file.read_text()) | {"task_specific_params": task}
    file.write_text(json.dumps(content))
    text = printed(PROMPTS[0], "--no-prompt", "--model", tmp_path / "model")
    assert text == written(PROMPTS[0]) + "\n"


def demo_with(folder, **files):
    """Return a copy of the demo model with keys added to its files of JSON."""
    shutil.copytree(short_demo(), folder)
    for name, changes in files.items():
        file = folder / f"{name}.json"
        content = json.loads(file.read_text()) if changes is not None else None
        file.unlink() if content is None else file.write_text(json.dumps(content | changes))
    return folder


def test_a_models_own_options_are_followed(tmp_path):
    own = {"do_sample": True, "top_k": 3, "seed": 5}
    folder = demo_with(tmp_path / "model", generation_config=own)
    expected = written(PROMPTS[0], **own)
    assert printed(PROMPTS[0], "--no-prompt", "--model", folder) == expected + "\n"
    greedy = printed(PROMPTS[0], "--no-prompt", "--model", folder, "-t", 0)
    assert greedy == written(PROMPTS[0]) + "\n"


def test_options_of_an_old_configuration_are_followed(tmp_path):
    old = {"max_length": 6, "no_repeat_ngram_size": 1}
    folder = demo_with(tmp_path / "model", config=old, generation_config=None)
    words = ["generate", "-b", NUMPY, PROMPTS[0], "--no-prompt", "--model", str(folder)]
    model = load_folder(NUMPY, short_demo())
    expected = model.generate_text(PROMPTS[0], strip_prompt=True, **old)
    assert CliRunner().invoke(main, words).stdout == expected + "\n"


def test_options_of_a_model_without_effect_are_named_once(tmp_path, caplog):
    unused = {"do_sample": False, "temperature": 0.0, "top_k": 1, "eos_token_id": 60000}
    folder = demo_with(tmp_path / "model", generation_config=unused)
    text = printed(PROMPTS[0], "--no-prompt", "--model", folder)
    assert text == written(PROMPTS[0], eos_token_id=None) + "\n"
    assert caplog.messages == [
        "Of the model's generation options temperature, top_k have no effect as they are.",
        "generate(): eos_token_id 60000 is not in the vocabulary of 50400 tokens and ends no text.",
    ]


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_line_of_a_file_has_the_sampled_text_of_its_prompt(size):
    lines = [*PROMPTS, PROMPTS[0]]
    text = printed("--file", "-", "--batch-size", size, "--seed", 7, input="\n".join(lines))
    found = [json.loads(line)["text"] for line in text.splitlines()]
    assert found[:3] == [written(prompt, do_sample=True, seed=7) for prompt in PROMPTS]
    assert found[0] != found[3]
    assert PROMPTS[0] + found[0] + "\n" == printed(PROMPTS[0], "--seed", 7)


@pytest.mark.parametrize("temperature", ["0", "0.0", "1e-300"])
def test_a_temperature_of_zero_is_greedy(caplog, temperature):
    assert printed(PROMPTS[0], "--no-prompt", "-t", temperature) == written(PROMPTS[0]) + "\n"
    assert caplog.messages == []


def test_an_option_without_effect_is_named_once(caplog):
    printed("--file", "-", "--batch-size", 1, "--length-penalty", 2, input=LINES)
    assert caplog.messages == ["generate(): length_penalty has no effect here."]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt, 130, "interrupted."), (ArgumentError("no"), 2, "no")],
    ids=["Ctrl-C", "error"],
)
def test_an_interrupted_stream_ends_its_line(monkeypatch, error, code, said):
    def interrupted(*_, **__):
        yield "text"
        raise error

    monkeypatch.setattr(TextGeneration, "stream_text", interrupted)
    result = invoke("A")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "Atext\n", f"gptj: {said}\n")


WRONG = {
    "unknown name": (["A", "--set", "tempratur=1"], 2, "Did you mean 'temperature'?"),
    "no value": (["A", "--set", "typical_p"], 2, "--set takes NAME=VALUE"),
    "impossible value": (["A", "--set", "typical_p=2"], 2, "typical_p must be in (0, 1]; found 2"),
    "text for a number": (["A", "--set", "num_beams=x"], 2, "num_beams must be"),
    "empty stop": (["A", "--stop", ""], 2, "stop_strings must be"),
    "twice": (["A", "--seed", "1", "--set", "seed=2"], 2, "'seed' is given twice"),
    "more texts than beams": (["A", "--num-beams", "2", "-r", "3"], 2, "more than num_beams"),
    "too long": (["A", "-n", "600"], 1, "exceed the model's n_positions"),
    "other truncation": (["A", "--truncation", "right"], 2, "'sliding_window'"),
    "no prompt": ([], 2, "There is no prompt"),
    "empty prompt": ([""], 2, "The prompt is empty"),
    "prompt and file": (["A", "--file", "-"], 2, "exclude each other"),
    "no such file": (["--file", "no-such-file"], 2, "no-such-file"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_say_what_is_wrong_and_print_no_text(wrong):
    words, code, message = WRONG[wrong]
    result = invoke(*words, input="import os\n \nimport re\n")
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "prompts.bin"
    file.write_bytes(b"import \xff\n")
    result = invoke("--file", file)
    assert result.exit_code == 2
    assert f"{file}, line 1: byte 8 of the line is not UTF-8" in result.stderr


EXAMPLE = re.compile(r"^  (?:(?:echo|printf) .* \| )?gptj (generate .*?)(?: > .*)?$", re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLE.findall(EXAMPLES))
def test_the_examples_run(example):
    words = shlex.split(example)
    if "--backend" in words:
        words[words.index("--backend") + 1] = NUMPY
    result = CliRunner().invoke(main, [*words, "-b", NUMPY, "-n", "2"], input=LINES)
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_help_shows_the_examples():
    shown = CliRunner().invoke(main, ["generate", "--help"]).stdout
    examples = EXAMPLE.findall(shown.replace("\n  ", "\n"))
    assert examples == EXAMPLE.findall(EXAMPLES)
    assert len(examples) > 4
