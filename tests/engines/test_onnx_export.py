"""What ``gptj export --to onnx`` writes, in ONNX Runtime and onnxruntime-genai."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import gptj
from gptj.checkpoint.saving import save_checkpoint
from gptj.errors import UnsupportedFeature
from gptj.exporting.export import export
from gptj.generation.options import GenerationConfig
from gptj.spec.heads import HEADS
from gptj.spec.tensors import LazyTensor
from models import load, short_demo, tiny_config, tiny_weights

pytestmark = pytest.mark.frameworks

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PROMPT = "def fibonacci(n):"


def tiny_folder(folder, head="causal_lm", tokens=None, **changes):
    """Write a variant of the tiny model with redrawn weights, and return its folder."""
    content = {**tiny_config(**changes).to_dict(), **(tokens or {})}
    config = gptj.GPTJConfig.from_dict(content)
    config.architectures = [HEADS[head].class_name]
    tensors = {n: LazyTensor.of(x) for n, x in tiny_weights(head, **changes).items()}
    save_checkpoint(folder, config, GenerationConfig.from_model(config), tensors)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of the short demo, exported."""
    return export(short_demo(), tmp_path_factory.mktemp("onnx") / "demo", to="onnx").folder


def text_of_numpy(count):
    """Return ids of the prompt and of the tokens that NumPy finds most likely after it."""
    inputs = gptj.load_tokenizer("demo")(PROMPT, return_tensors="np")
    return load("numpy", short_demo()).generate(**inputs, max_new_tokens=count, do_sample=False)[0]


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True, "layer_norm_epsilon": 0.01}])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_equals_the_oracle(head, changes, tmp_path):
    folder = tiny_folder(tmp_path / "model", head, **changes)
    parity = export(folder, tmp_path / "onnx", to="onnx").parity
    assert (parity["measured"], parity["passed"], parity["head"]) == (True, True, head)
    assert {found["case"].split(" of ")[0] for found in parity["cases"]} >= {"one sequence"}
    if head == "causal_lm":
        assert parity["not_run"] == {}
        assert (parity["texts"]["equal"], parity["texts"]["of"]) == (12, 12)


def test_the_demo_writes_the_texts_of_the_oracle(tmp_path):
    parity = export("demo", tmp_path / "onnx", to="onnx").parity
    assert (parity["texts"]["equal"], parity["texts"]["of"]) == (12, 12)
    assert parity["error"]["max"] < 5e-5


def programs(folder):
    """Return the programs of a folder's page."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def run_program(program, folder):
    """Return what a program prints that runs in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_of_the_page_writes_the_right_text(exported):
    ids = text_of_numpy(20)
    program = programs(exported)[0]
    assert run_program(program, exported) == gptj.load_tokenizer("demo").decode(ids) + "\n"
    assert len([line for line in program.splitlines() if line]) <= 14


def test_the_program_for_genai_writes_the_right_text(exported):
    pytest.importorskip("onnxruntime_genai")
    count = len(gptj.load_tokenizer("demo")(PROMPT)["input_ids"])
    ids = text_of_numpy(40 - count)
    found = run_program(programs(exported)[1], exported)
    assert found == gptj.load_tokenizer("demo").decode(ids) + "\n"


def test_the_program_for_another_head_runs(tmp_path):
    folder = export(short_demo(), tmp_path / "onnx", to="onnx", head="base").folder
    shape = (1, len(gptj.load_tokenizer("demo")(PROMPT)["input_ids"]), 128)
    assert run_program(*programs(folder), folder) == f"{ {'last_hidden_state': shape} }\n"


def generated(model, prompts, count):
    """Return what onnxruntime-genai generates from prompts of several lengths."""
    import onnxruntime_genai as genai

    found = []
    for ids in prompts:
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + count)
        generator = genai.Generator(model, params)
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        found.append(list(generator.get_sequence(0)))
    return found


def test_genai_generates_the_tokens_of_numpy(exported):
    genai = pytest.importorskip("onnxruntime_genai")
    generator = np.random.Generator(np.random.PCG64(5))
    prompts = [generator.integers(0, 50_000, size).tolist() for size in (1, 4, 9)]
    model = load("numpy", short_demo())
    found = generated(genai.Model(str(exported)), prompts, 12)
    for ids, text in zip(prompts, found, strict=True):
        true = model.generate(np.array([ids]), max_new_tokens=12, do_sample=False)[0]
        assert text == true.tolist()


@pytest.mark.parametrize(
    ("tokens", "ends", "pad"),
    [
        ({"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}, 95, 95),
        ({"eos_token_id": [7, 9], "pad_token_id": None}, [7, 9], 7),
        ({"eos_token_id": 7, "pad_token_id": 3}, 7, 3),
    ],
    ids=str,
)
def test_genai_opens_a_model_of_any_special_tokens(tokens, ends, pad, tmp_path):
    genai = pytest.importorskip("onnxruntime_genai")
    folder = tiny_folder(tmp_path / "model", tokens=tokens)
    place = export(folder, tmp_path / "onnx", to="onnx").folder
    settings = json.loads((place / "genai_config.json").read_text())["model"]
    assert settings["pad_token_id"] == pad
    assert settings["eos_token_id"] == ends
    (text,) = generated(genai.Model(str(place)), [[3, 1, 0]], 8)
    true = load("numpy", folder).generate(np.array([[3, 1, 0]]), max_new_tokens=8, do_sample=False)
    assert text == true[0].tolist()


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"quantize": "int8"}], ids=str)
def test_what_it_does_not_hold_is_refused(options, tmp_path):
    with pytest.raises(UnsupportedFeature, match="target 'onnx'"):
        export(short_demo(), tmp_path / "onnx", to="onnx", **options)
    assert not (tmp_path / "onnx").exists()
