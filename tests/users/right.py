"""A program as users write it, whose types are all as promised: `mypy --strict` finds nothing."""

from pathlib import Path
from typing import assert_type

import gptj
from gptj.model.pretrained import Pretrained
from gptj.parity.report import ParityReport
from gptj.prediction.classification import Classification
from gptj.prediction.question_answering import Answer
from gptj.scoring.perplexity import Score
from gptj.spec.outputs import ModelOutput
from gptj.tools.inspect import Inspection
from gptj.tools.plan import Plan
from gptj.training.finetune import Finetuned

# a model's class follows from its backend and its head
assert_type(gptj.load("demo", backend="torch"), gptj.GPTJForCausalLM)
assert_type(gptj.load("demo", backend="torch", head="base"), gptj.GPTJModel)
assert_type(gptj.load(backend="pytorch", head="causal_lm"), gptj.GPTJForCausalLM)
assert_type(
    gptj.load(Path("x"), backend="pt", head="sequence_classification"),
    gptj.GPTJForSequenceClassification,
)
assert_type(
    gptj.load("x", backend="torch", head="question_answering"), gptj.GPTJForQuestionAnswering
)
assert_type(gptj.load("demo", backend="tf"), gptj.TFGPTJForCausalLM)
assert_type(gptj.load("demo", backend="tensorflow", head="base"), gptj.TFGPTJModel)
assert_type(gptj.load("demo", backend="keras", head="causal_lm"), gptj.TFGPTJForCausalLM)
assert_type(
    gptj.load("x", backend="tf", head="sequence_classification"),
    gptj.TFGPTJForSequenceClassification,
)
assert_type(
    gptj.load("x", backend="tf", head="question_answering"), gptj.TFGPTJForQuestionAnswering
)
assert_type(gptj.load("demo", backend="flax"), gptj.FlaxGPTJForCausalLM)
assert_type(gptj.load("demo", backend="jax", head="base"), gptj.FlaxGPTJModel)
assert_type(gptj.load("demo", backend="flax", head="causal_lm"), gptj.FlaxGPTJForCausalLM)
assert_type(
    gptj.load("x", backend="flax", head="sequence_classification"),
    gptj.FlaxGPTJForSequenceClassification,
)
assert_type(
    gptj.load("x", backend="flax", head="question_answering"), gptj.FlaxGPTJForQuestionAnswering
)
assert_type(gptj.load("demo"), Pretrained)


def load_any(backend: str, head: str | None) -> Pretrained:
    """Load what is known only when the program runs."""
    model = gptj.load("demo", backend=backend, head=head, dtype="bfloat16", seed=1)
    return assert_type(model, Pretrained)


# every way to load takes the options of its framework
gptj.load("6B", backend="torch", device_map="auto", max_memory={0: "10GiB"}, quantize="int8")
gptj.load("6B", backend="flax", param_dtype="float32", sharding=None, revision="main")
gptj.load("6B", backend="tf", dtype="mixed_bfloat16", num_labels=3, local_files_only=True)
torch_model = gptj.GPTJForCausalLM.from_pretrained("demo", attn_implementation="eager")
assert_type(torch_model, gptj.GPTJForCausalLM)
assert_type(gptj.AutoModelForCausalLM.from_pretrained("demo"), gptj.GPTJForCausalLM)
assert_type(gptj.TFGPTJModel.from_pretrained("demo", dtype="float16"), gptj.TFGPTJModel)

# configurations
config = gptj.GPTJConfig(n_layer=2, hidden_size=64)
assert_type(config.n_layer, int)
assert_type(config.rotary_dim, int | None)
assert_type(config.head_dim, int)
assert_type(gptj.GPTJConfig.from_pretrained("6B", n_layer=1), gptj.GPTJConfig)
assert_type(torch_model.config.n_embd, int)

# adapters
assert_type(torch_model.add_lora(rank=4).merge_lora(), gptj.GPTJForCausalLM)
assert_type(gptj.load_lora(torch_model, "folder", revision="main"), gptj.GPTJForCausalLM)
assert_type(gptj.add_lora(torch_model, rank=4, alpha=8), gptj.GPTJForCausalLM)

# generation
tokenizer = gptj.load_tokenizer("demo")
assert_type(tokenizer, gptj.GPTJTokenizer)
inputs = tokenizer("def fib(n):", return_tensors="pt")
torch_model.generate(**inputs, max_new_tokens=40)
torch_model.generate([[1, 2]], max_new_tokens=40, do_sample=True, temperature=0.7, num_beams=1)
found = torch_model.generate([[1, 2]], return_dict_in_generate=True, output_scores=True)
assert_type(found, ModelOutput)
streamer = gptj.TextStreamer(tokenizer, skip_prompt=True)
torch_model.generate([[1]], streamer=streamer, tokenizer=tokenizer, stop_strings=["\n"])
torch_model.generate([[1]], generation_config=gptj.GenerationConfig(max_new_tokens=3))
assert_type(torch_model.generate_text("def", max_new_tokens=3), str)
assert_type(torch_model.generate_text(["def", "class"], batch_size=2), list[str])
assert_type(gptj.generate("def", torch_model, strip_prompt=True), str)
assert_type(gptj.generate(["def"], "demo", backend="torch"), list[str])
assert_type("".join(torch_model.stream_text("def", seed=1)), str)

# what models say of texts
assert_type(torch_model.score("some text"), Score)
assert_type(torch_model.score(["one", "two"], stride=8), list[Score])
assert_type(torch_model.score("one", continuations=["a", "b"]), list[Score])
assert_type(torch_model.score(["one"], continuations=["a", "b"]), list[list[Score]])
assert_type(gptj.predict("some text", "folder", backend="torch"), Classification)
assert_type(gptj.predict(["some text"], "folder", truncate=True), list[Classification])
assert_type(gptj.predict("some text", torch_model, question="Who?"), Answer)
assert_type(gptj.predict(["some text"], torch_model, question="Who?"), list[Answer])

# files and tools
assert_type(gptj.finetune("demo", ["a.txt"], "out", lora=8, batch_size=2), Finetuned)
assert_type(gptj.parity("demo", backends=["torch"]), ParityReport)
assert_type(gptj.inspect("demo"), Inspection)
assert_type(gptj.plan("6B", batch=2, revision="main"), Plan)
assert_type(gptj.convert("demo", "out", to="h5", quantize="int8"), Path)
assert_type(gptj.init("6B", "out", head="base"), Path)
assert_type(gptj.__version__, str)
for batch in gptj.text_dataset("a.txt", length=8).batches(2):
    assert batch["input_ids"].shape == (2, 8)
try:
    gptj.load("nowhere")
except gptj.GPTJError as error:
    print(error)
