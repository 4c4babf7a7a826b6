"""TRL's trainers train our models, to the losses that they give transformers' own."""

from functools import partial

import pytest
import transformers
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

import gptj
from models import short_demo
from torch_pairs import TRAINING

pytestmark = pytest.mark.frameworks

TEXTS = ["import os\n", "def f(x):\n    return x\n", "class A:\n    pass\n", "x = 1\n"]
ONE_BY_ONE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
SETTINGS = {
    **TRAINING,
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "bf16": False,
    "gradient_checkpointing": False,
}
KINDS = {
    "sft": (SFTTrainer, SFTConfig, {"max_length": 24}),
    "dpo": (DPOTrainer, DPOConfig, {}),
    "grpo": (GRPOTrainer, GRPOConfig, {"max_completion_length": 4, "num_generations": 4}),
}
EXAMPLES = {
    "sft": [{"text": text * k} for k in (1, 2) for text in TEXTS],
    "dpo": [{"prompt": "import ", "chosen": "os\n" * k, "rejected": "zz"} for k in (1, 2, 3, 4)],
    "grpo": [{"prompt": "import "}] * 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo")
    gptj.load(short_demo(), backend="torch").save_pretrained(path)
    return path


def ours(folder):
    return gptj.load(folder, backend="torch")


def theirs(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def trained(kind, model, folder, path, examples=None, **options):
    """Train, and return the trainer and the loss of every step."""
    make, settings, own = KINDS[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    names = ("peft_config", "ref_model", "reward_funcs")
    beside = {name: options.pop(name) for name in names if name in options}
    trainer = make(
        model=model,
        args=settings(str(path), **{**SETTINGS, **own, **options}),
        train_dataset=Dataset.from_list(examples or EXAMPLES[kind]),
        processing_class=tokenizer,
        **beside,
    )
    trainer.train()
    return trainer, [e["loss"] for e in trainer.state.log_history if "loss" in e]


WAYS = {
    "a batch": {},
    "batches of one": ONE_BY_ONE,
    "activations computed twice": {"gradient_checkpointing": True},
    "texts cut anywhere": {"packing": True, "packing_strategy": "wrapped"},
}


@pytest.mark.parametrize("way", WAYS)
def test_supervised_losses_are_those_of_transformers_own_model(way, folder, tmp_path):
    _, expected = trained("sft", theirs(folder), folder, tmp_path, **WAYS[way])
    _, found = trained("sft", ours(folder), folder, tmp_path, **WAYS[way])
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_trained_model_is_marked_and_saved_whole(folder, tmp_path):
    trainer, _ = trained("sft", ours(folder), folder, tmp_path)
    assert {"sft", "trl"} <= {*trainer.model.model_tags}
    trainer.model.save_pretrained(tmp_path / "saved")
    saved = gptj.load(tmp_path / "saved", backend="torch")
    assert saved.generate_text("import", max_new_tokens=4).startswith("import")


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_an_adapter_is_trained(kind, folder, tmp_path):
    lora = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
    trainer, found = trained(kind, ours(folder), folder, tmp_path, peft_config=lora)
    assert found[1] != found[0]
    trainer.save_model(str(tmp_path / "adapter"))
    assert gptj.load(tmp_path / "adapter", backend="torch").lora.rank == 2


@pytest.mark.parametrize("reference", [None, ours], ids=["from its folder", "given"])
def test_preferences_are_learnt_as_by_transformers_own_model(reference, folder, tmp_path):
    _, expected = trained("dpo", theirs(folder), folder, tmp_path)
    beside = {} if reference is None else {"ref_model": reference(folder)}
    _, found = trained("dpo", ours(folder), folder, tmp_path, **beside)
    assert found == pytest.approx(expected, abs=1e-4)


def test_rewards_are_learnt_from_generated_texts(folder, tmp_path):
    def lengths(completions, **rest):
        return [float(len(text)) for text in completions]

    trainer, found = trained("grpo", ours(folder), folder, tmp_path, reward_funcs=lengths)
    assert len(found) == 2
    assert trainer.state.log_history[0]["completions/mean_length"] > 0


def test_policies_learn_as_transformers_own_from_the_same_texts(folder, tmp_path):
    def places(completions, **rest):
        return [float(place) for place in range(len(completions))]

    written, logs = [], []

    def note(generate, *args, **options):
        written.append(generate(*args, seed=len(written), **options))
        return written[-1]

    options = {"reward_funcs": places, "max_steps": 3, "beta": 0.1, "optim": "sgd"}
    options |= {"learning_rate": 0.05, "temperature": 2.0}  # so that the texts differ
    for model in (ours(folder), theirs(folder)):
        if not logs:
            model.generate = partial(note, model.generate)
        else:  # what ours drew
            model.generate = lambda *args, **options: written.pop(0)
        trainer, _ = trained("grpo", model, folder, tmp_path, **options)
        logs.append([entry for entry in trainer.state.log_history if "kl" in entry])
    assert not written
    assert logs[0][0]["grad_norm"] > 0.1 and logs[0][2]["kl"] > 1e-4
    for name in ("loss", "kl", "entropy", "reward_std", "grad_norm"):
        found, expected = ([entry[name] for entry in log] for log in logs)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), name


def test_packed_texts_train_as_the_same_texts_in_rows(folder, tmp_path):
    rows = {"max_steps": 2, "max_length": 64}
    examples = EXAMPLES["sft"][:4]
    _, expected = trained("sft", ours(folder), folder, tmp_path, examples, **rows)
    packed = {**rows, "packing": True, "per_device_train_batch_size": 1}
    trainer, found = trained("sft", ours(folder), folder, tmp_path, examples, **packed)
    assert len(trainer.train_dataset) == 1
    assert found == pytest.approx(expected, abs=1e-4)
