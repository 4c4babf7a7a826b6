"""PEFT on our models: every method, for every kind of task, as on transformers' GPT-J."""

import json

import peft
import pytest
import torch

import gptj
from gptj.errors import CheckpointError
from torch_pairs import draw, folder, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
ALL = torch.ones_like(IDS)
GREEDY = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
HEADS = {
    "CAUSAL_LM": "causal_lm",
    "SEQ_CLS": "sequence_classification",
    "QUESTION_ANS": "question_answering",
    "FEATURE_EXTRACTION": "base",
}
TARGETS = {
    "CAUSAL_LM": {"labels": IDS},
    "SEQ_CLS": {"labels": torch.tensor([0, 2])},
    "QUESTION_ANS": {
        "start_positions": torch.tensor([1, 2]),
        "end_positions": torch.tensor([3, 4]),
    },
}
SOME = {"target_modules": ["q_proj", "v_proj", "fc_in"]}
BUDGET = {"total_step": 10, "init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1}
INSIDE = {
    "LoRA": lambda **task: peft.LoraConfig(r=4, init_lora_weights=False, **task),
    "DoRA": lambda **task: peft.LoraConfig(r=4, use_dora=True, **SOME, **task),
    "PiSSA": lambda **task: peft.LoraConfig(r=4, init_lora_weights="pissa", **SOME, **task),
    "IA3": lambda **task: peft.IA3Config(**task),
    "LoHa": lambda **task: peft.LoHaConfig(r=4, init_weights=False, **SOME, **task),
    "VeRA": lambda **task: peft.VeraConfig(r=4, target_modules=["q_proj", "v_proj"], **task),
    "BOFT": lambda **task: peft.BOFTConfig(boft_block_size=4, **SOME, **task),
    "LNTuning": lambda **task: peft.LNTuningConfig(target_modules=["ln_1", "ln_f"], **task),
    "AdaLoRA": lambda **task: peft.AdaLoraConfig(**BUDGET, **task),
    "all-linear": lambda **task: peft.LoraConfig(
        target_modules="all-linear", exclude_modules=["lm_head"], **task
    ),
}
IN_FRONT = {
    "prompt tuning": lambda **task: peft.PromptTuningConfig(num_virtual_tokens=3, **task),
    "prefix tuning": lambda **task: peft.PrefixTuningConfig(num_virtual_tokens=3, **task),
    "p-tuning": lambda **task: peft.PromptEncoderConfig(
        num_virtual_tokens=3, encoder_hidden_size=8, **task
    ),
}
CASES = [
    *((method, "CAUSAL_LM") for method in INSIDE),
    *((method, task) for method in ("LoRA", *IN_FRONT) for task in HEADS if task != "CAUSAL_LM"),
    *((method, "CAUSAL_LM") for method in IN_FRONT),
]


def adapted(model, method, task):
    """Return a model under an adapter that a seed draws."""
    torch.manual_seed(3)
    make = {**INSIDE, **IN_FRONT}[method]
    return peft.get_peft_model(model, make(task_type=task))


def train(model, task, steps=2):
    """Train what an adapter adds, and return the losses."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.SGD(trained, lr=0.5), []
    for _ in range(steps):
        loss = model(input_ids=IDS, attention_mask=ALL, **TARGETS[task]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def output_of(model):
    return model(input_ids=IDS, attention_mask=ALL)[0]


@pytest.mark.parametrize(("method", "task"), CASES)
def test_training_text_and_files_are_those_on_transformers_model(method, task, tmp_path):
    outputs = []
    for ours, model in enumerate(pair(HEADS[task])):
        wrapped, found = adapted(model, method, task), []
        if task in TARGETS:
            found.append(torch.tensor(train(wrapped, task)))
        found.append(output_of(wrapped))
        if task == "CAUSAL_LM":
            found.append(wrapped.generate(input_ids=IDS, attention_mask=ALL, **GREEDY))
        wrapped.save_pretrained(tmp_path / str(ours))
        again = peft.PeftModel.from_pretrained(pair(HEADS[task])[ours], tmp_path / str(ours))
        torch.testing.assert_close(output_of(again), output_of(wrapped))
        if method in INSIDE:
            merged = wrapped.merge_and_unload()
            torch.testing.assert_close(output_of(merged), found[1 if task in TARGETS else 0])
        outputs.append(found)
    for theirs, own in zip(*outputs, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", IN_FRONT)
@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.7}, {"num_beams": 3}, {"no_repeat_ngram_size": 2}],
    ids=lambda options: next(iter(options)),
)
def test_options_see_the_prompt_behind_learnt_tokens(method, options):
    found = [
        adapted(model, method, "CAUSAL_LM").generate(
            input_ids=IDS, attention_mask=ALL, **GREEDY, **options
        )
        for model in pair()
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("method", IN_FRONT)
def test_the_greatest_length_counts_no_learnt_tokens(method):
    model = adapted(pair()[1], method, "CAUSAL_LM")
    options = {"max_length": 15, "eos_token_id": None, "pad_token_id": 0}
    assert model.generate(input_ids=IDS, attention_mask=ALL, **options).shape == (2, 15)


@pytest.mark.parametrize("method", IN_FRONT)
def test_padding_on_the_left_behind_learnt_tokens_changes_no_text(method):
    model = adapted(pair()[1], method, "CAUSAL_LM")
    alone = model.generate(input_ids=IDS[:1, :6], attention_mask=ALL[:1, :6], **GREEDY)
    padded = torch.cat((torch.zeros_like(IDS[:1, :3]), IDS[:1, :6]), dim=1)
    mask = (torch.arange(9)[None] >= 3).long()
    assert torch.equal(
        model.generate(input_ids=padded, attention_mask=mask, **GREEDY)[:, 3:], alone
    )


def test_an_adapter_of_the_demo_finds_it_on_another_machine(tmp_path):
    model = gptj.load("demo", backend="torch")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    content = json.loads(path.read_text())
    assert content["base_model_name_or_path"].endswith("gptj/data/demo")
    content["base_model_name_or_path"] = "/home/else/site-packages/gptj/data/demo"
    path.write_text(json.dumps(content))
    found = gptj.load(tmp_path, backend="torch")
    torch.testing.assert_close(found(IDS).logits, output_of(wrapped), rtol=1e-4, atol=1e-4)


def test_a_model_after_prompt_learning_generates_as_before():
    model = pair()[1]
    before = model.generate(IDS, **GREEDY)
    wrapped = adapted(model, "prompt tuning", "CAUSAL_LM")
    assert not torch.equal(wrapped.generate(input_ids=IDS, attention_mask=ALL, **GREEDY), before)
    assert torch.equal(model.generate(IDS, **GREEDY), before)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "fc_out"]], ids=str)
def test_our_own_loader_reads_an_adapter_and_finds_its_base(targets, tmp_path):
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=targets, init_lora_weights=False
    )
    model = peft.get_peft_model(pair()[1], config)
    model.save_pretrained(tmp_path)
    found = gptj.load(tmp_path, backend="torch")
    torch.testing.assert_close(found(IDS).logits, output_of(model), rtol=1e-5, atol=1e-5)
    named = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(folder())


MORE = {
    "the word table": ({"modules_to_save": ["wte"]}, r"beside LoRA: wte\.weight \(96, 32\)\."),
    "a norm": ({"modules_to_save": ["ln_f"]}, r"beside LoRA: ln_f\.bias \(32,\), ln_f\.weight"),
    "rows of the word table": (
        {"trainable_token_indices": {"wte": [1, 2]}},
        r"not done here: trainable_token_indices = ",
    ),
    "LoRA of the word table": ({"target_modules": ["wte"]}, "no linear layer 'wte'"),
    "a bias": ({"bias": "lora_only"}, "not done here: bias = 'lora_only'"),
}


@pytest.mark.parametrize("case", MORE)
def test_an_adapter_that_is_more_is_refused_and_loaded_when_it_is_merged(case, tmp_path):
    options, message = MORE[case]
    adapted = peft.get_peft_model(
        pair()[0], peft.LoraConfig(**{"target_modules": ["fc_in"], **options})
    )
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.01 * parameter.requires_grad
    adapted.save_pretrained(tmp_path / "adapter")
    for load in (pair()[1].load_lora, lambda name: gptj.load(name, backend="torch")):
        with pytest.raises(CheckpointError, match=rf"{message}.*merge_and_unload\(\)\.save_pre"):
            load(tmp_path / "adapter")
    merged = peft.PeftModel.from_pretrained(pair()[1], tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    found = gptj.load(tmp_path / "merged", backend="torch")(IDS).logits
    torch.testing.assert_close(found, adapted.eval()(IDS).logits, rtol=1e-4, atol=1e-5)
