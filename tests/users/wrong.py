"""Mistakes as users make them; each is what `mypy --strict` must find on its line."""

from typing import assert_type

import gptj

gptj.laod("demo")  # error: attr-defined
gptj.load(backnd="torch")  # error: call-overload
gptj.load("demo", backend="torch", devcie="cpu")  # error: call-overload
gptj.load("demo", backend=1)  # error: call-overload
model: gptj.FlaxGPTJForCausalLM = gptj.load(backend="flax", head="base")  # error: assignment
assert_type(gptj.load(backend="torch", head="base"), gptj.GPTJForCausalLM)  # error: assert-type
assert_type(gptj.load(backend="tf"), gptj.GPTJForCausalLM)  # error: assert-type
gptj.GPTJForCausalLM.from_pretrained("demo", dtyp="float16")  # error: call-arg
gptj.load("demo").generat_text("def")  # error: attr-defined
gptj.GPTJConfig(n_layers=2)  # error: call-arg
gptj.GPTJConfig(n_layer="two")  # error: arg-type
gptj.GPTJConfig.from_pretrained("6B", n_layers=2)  # error: call-arg
model.generate([[1]], max_new_token=3)  # error: call-overload
model.generate([[1]], max_new_tokens="3")  # error: call-overload
model.generate_text("def", max_tokens=3)  # error: call-overload
model.add_lora(rnak=8)  # error: call-arg
gptj.generate("def", temprature=0.5)  # error: call-overload
gptj.predict("text", "folder", questoin="Who?")  # error: call-overload
gptj.finetune("demo", "a.txt", "out", epoch=3)  # error: call-arg
gptj.load_tokenizer("demo", padding_sied="left")  # error: call-arg
gptj.convert("demo", "out", too="h5")  # error: call-arg
gptj.plan("6B", batchsize=2)  # error: call-arg
