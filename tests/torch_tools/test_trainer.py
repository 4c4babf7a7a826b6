"""transformers' Trainer trains our models as its own, to the same losses."""

import numpy as np
import pytest
import torch
import transformers
from transformers import Trainer, TrainingArguments

import gptj
from torch_pairs import TRAINING, folder, pair

pytestmark = pytest.mark.frameworks

EIGHT = {"per_device_train_batch_size": 8}
ONE_BY_ONE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
GENERATOR = np.random.default_rng(0)
IDS = GENERATOR.integers(1, 94, (16, 12))
COUNTS = GENERATOR.integers(2, 12, 16)  # of labels: every row has another number


def rows(head):
    """Return examples of a head as users have them."""
    if head == "sequence_classification":
        return [{"input_ids": ids, "labels": i % 3} for i, ids in enumerate(IDS.tolist())]
    if head == "question_answering":
        return [
            {"input_ids": ids, "start_positions": i % 9, "end_positions": i % 9 + 2}
            for i, ids in enumerate(IDS.tolist())
        ]
    labels = np.where(np.arange(12) < COUNTS[:, None], IDS, -100).tolist()
    return [
        {"input_ids": ids, "labels": row} for ids, row in zip(IDS.tolist(), labels, strict=True)
    ]


def trainer(model, path, examples=None, **options):
    """Return a trainer of three steps."""
    settings = {**TRAINING, "max_steps": 3, "learning_rate": 1e-2}
    beside = {name: options.pop(name) for name in ("processing_class",) if name in options}
    examples = examples or rows("causal_lm")
    args = TrainingArguments(str(path), **{**settings, **EIGHT, **options})
    return Trainer(
        model=model, args=args, train_dataset=examples, eval_dataset=examples[:4], **beside
    )


def losses(trained):
    """Train, and return the loss of every step."""
    trained.train()
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


WAYS = {
    "a batch of eight": {},
    "eight batches of one": ONE_BY_ONE,
    "activations computed twice": {"gradient_checkpointing": True},
    "every other layer twice": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True, "every_n_layers": 2},
    },
    "smoothed labels": {"label_smoothing_factor": 0.1},
    "noise on the embeddings": {"neftune_noise_alpha": 5},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_losses_are_those_of_transformers_own_model(way, tmp_path):
    theirs, ours = pair()
    usual = {k: v for k, v in WAYS[way].items() if not k.startswith(("gradient_ch", "torch_c"))}
    expected = losses(trainer(theirs.train(), tmp_path, **usual))
    assert losses(trainer(ours, tmp_path, **WAYS[way])) == pytest.approx(expected, abs=1e-4)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    found = []
    for way in (EIGHT, ONE_BY_ONE):
        model = pair()[1]
        seen = trainer(model, tmp_path, max_steps=1, optim="sgd", max_grad_norm=0, **way)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        seen.train()
        found.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for name, change in found[0].items():
        torch.testing.assert_close(found[1][name], change, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("head", ["sequence_classification", "question_answering"])
def test_other_heads_have_the_losses_of_transformers_and_accumulate(head, tmp_path):
    changes = {"num_labels": 2} if head == "question_answering" else {}
    name = folder(head) if not changes else folder("base")
    kind = {"sequence_classification": "Sequence", "question_answering": "QuestionA"}[head]
    (cls,) = (c for c in dir(transformers) if c.startswith(f"GPTJFor{kind}"))
    ours = gptj.load(name, head=head, backend="torch", ignore_mismatched_sizes=True, **changes)
    ours.save_pretrained(tmp_path / "start")
    theirs = getattr(transformers, cls).from_pretrained(tmp_path / "start")
    expected = losses(trainer(theirs.train(), tmp_path, rows(head)))
    assert losses(trainer(ours, tmp_path, rows(head))) == pytest.approx(expected, abs=1e-4)
    again = gptj.load(tmp_path / "start", head=head, backend="torch")
    one_by_one = losses(trainer(again, tmp_path, rows(head), **ONE_BY_ONE))
    assert one_by_one == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_checkpoint_is_loaded_resumed_and_the_best_one_comes_back(tied, tmp_path):
    model = pair(tied=tied)[1]
    model.config.save_pretrained(tmp_path)  # Trainer writes the weights alone
    options = {"save_strategy": "steps", "save_steps": 1}
    best = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    first = trainer(model, tmp_path, **options, **best)
    expected = losses(first)

    checkpoint = gptj.load(tmp_path / "checkpoint-3", backend="torch")
    assert checkpoint.config.n_head == model.config.n_head == 4
    assert (checkpoint.lm_head.weight is checkpoint.transformer.wte.weight) == tied
    best_one = gptj.load(first.state.best_model_checkpoint, backend="torch")
    for name, parameter in model.named_parameters():
        assert torch.equal(best_one.get_parameter(name), parameter), name

    resumed = trainer(pair(tied=tied)[1], tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
    assert found == pytest.approx(expected, abs=1e-5)


def test_evaluation_and_prediction_are_those_of_transformers(tmp_path):
    theirs, ours = (trainer(model, tmp_path) for model in pair())
    expected, found = theirs.evaluate(), ours.evaluate()
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-4)
    examples = rows("causal_lm")[:3]
    predictions = [each.predict(examples).predictions for each in (theirs, ours)]
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-4)


@pytest.mark.parametrize("whose", ["ours", "transformers"])
def test_a_tokenizer_aligns_the_model_with_it(whose, tmp_path):
    gptj.load_tokenizer("demo").save_pretrained(tmp_path / "tokenizer")
    model = gptj.GPTJForCausalLM(gptj.GPTJConfig.from_pretrained(folder(), vocab_size=50400))
    if whose == "ours":
        tokenizer = gptj.load_tokenizer("demo")
    else:
        model.config.save_pretrained(tmp_path / "tokenizer")
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
        tokenizer.pad_token = tokenizer.eos_token
    seen = trainer(model, tmp_path, max_steps=1, processing_class=tokenizer)
    assert len(losses(seen)) == 1
    seen.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "tokenizer_config.json").exists()
    if whose == "transformers":
        assert model.config.eos_token_id == model.generation_config.pad_token_id == 50256


def test_bfloat16_autocast_trains(tmp_path):
    expected, found = (
        losses(trainer(model.train(), tmp_path, bf16=True, max_steps=2)) for model in pair()
    )
    assert found == pytest.approx(expected, rel=2e-2)
