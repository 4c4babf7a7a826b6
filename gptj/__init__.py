"""GPT-J, whole, in PyTorch, TensorFlow/Keras 3 and Flax, from one specification.

    import gptj

    model = gptj.load("demo", backend="torch")  # or "tf", or "flax"
    tokenizer = gptj.load_tokenizer("demo")
    ids = model.generate(**tokenizer("def fib(n):", return_tensors="pt"), max_new_tokens=40)

Importing gptj imports no framework: every public name is resolved on first use. ``dir(gptj)`` lists
the names, and ``help(gptj.load)`` describes one.
"""

import importlib
import sys
from typing import Any, Final

from gptj.errors import suggest
from gptj.system.keras_names import register_when_imported

PREFIXES: Final = {"": "torch", "TF": "tf", "Flax": "flax"}
"""What the names of a backend's models begin with."""

AUTO: Final = {
    "AutoModel": "GPTJModel",
    "AutoModelForCausalLM": "GPTJForCausalLM",
    "AutoModelForSequenceClassification": "GPTJForSequenceClassification",
    "AutoModelForQuestionAnswering": "GPTJForQuestionAnswering",
}
"""Names under which scripts find a head, whatever the architecture -> what they are here."""

PUBLIC: Final = {
    "load": "gptj.api",
    "load_tokenizer": "gptj.api",
    "generate": "gptj.api",
    "predict": "gptj.prediction.predict",
    "add_lora": "gptj.model.lora",
    "load_lora": "gptj.model.lora",
    "parity": "gptj.parity.report",
    "finetune": "gptj.training.finetune",
    "convert": "gptj.tools.convert",
    "export": "gptj.exporting.export",
    "init": "gptj.tools.init",
    "inspect": "gptj.tools.inspect",
    "plan": "gptj.tools.plan",
    "text_dataset": "gptj.datasets.text",
    "classification_dataset": "gptj.datasets.classification",
    "question_dataset": "gptj.datasets.question_answering",
    "GPTJConfig": "gptj.model.config",
    "GenerationConfig": "gptj.generation.options",
    "TextStreamer": "gptj.generation.streaming",
    "TextIteratorStreamer": "gptj.generation.streaming",
    "GPTJTokenizer": "gptj.tokenizer",
    "GPTJError": "gptj.errors",
    "GPTJModel": "gptj.backends.torch.heads",
    "GPTJForCausalLM": "gptj.backends.torch.heads",
    "GPTJForSequenceClassification": "gptj.backends.torch.heads",
    "GPTJForQuestionAnswering": "gptj.backends.torch.heads",
    "TFGPTJModel": "gptj.backends.tf.heads",
    "TFGPTJForCausalLM": "gptj.backends.tf.heads",
    "TFGPTJForSequenceClassification": "gptj.backends.tf.heads",
    "TFGPTJForQuestionAnswering": "gptj.backends.tf.heads",
    "FlaxGPTJModel": "gptj.backends.flax.heads",
    "FlaxGPTJForCausalLM": "gptj.backends.flax.heads",
    "FlaxGPTJForSequenceClassification": "gptj.backends.flax.heads",
    "FlaxGPTJForQuestionAnswering": "gptj.backends.flax.heads",
    "AutoConfig": "gptj.model.config:GPTJConfig",
    "AutoTokenizer": "gptj.tokenizer:GPTJTokenizer",
    **{
        f"{prefix}{name}": f"gptj.backends.{backend}.heads:{prefix}{model}"
        for prefix, backend in PREFIXES.items()
        for name, model in AUTO.items()
    },
    "infer_device": "gptj.backends.torch.backend",
}
"""Every public name -> the module that defines it, under another name where one follows."""

SAVED_BY_KERAS: Final = {
    **{name: PUBLIC[name] for name in PUBLIC if PUBLIC[name] == "gptj.backends.tf.heads"},
    "AdamW": "gptj.backends.tf.optimizer",
}
"""Classes that a file in Keras's format may name -> the module that has them."""

AS_IT_IS: Final = "that of transformers takes the models of this package as they are."

ELSEWHERE: Final = {
    "Trainer": AS_IT_IS,
    "TrainingArguments": AS_IT_IS,
    "pipeline": AS_IT_IS,
    "DataCollatorForLanguageModeling": "gptj.text_dataset makes batches with labels, and "
    "tokenizer.pad those of texts.",
    "DataCollatorWithPadding": "use tokenizer.pad, which takes a list of encoded texts.",
    "default_data_collator": "use torch.utils.data.default_collate.",
    "set_seed": "use random.seed, numpy.random.seed, and torch.manual_seed or "
    "keras.utils.set_random_seed.",
    "AdamW": "use torch.optim.AdamW.",
    "get_scheduler": "use torch.optim.lr_scheduler.LambdaLR, or OneCycleLR.",
    "get_linear_schedule_with_warmup": "use torch.optim.lr_scheduler.LambdaLR, or OneCycleLR.",
    "create_optimizer": "use keras.optimizers.AdamW with a schedule of "
    "keras.optimizers.schedules, or gptj.backends.tf.optimizer.AdamW.",
}
"""What scripts import from transformers and is not here -> what serves instead."""

__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing else."""
    if name == "__version__":
        from gptj.system.versions import VERSION

        return VERSION
    if name in ELSEWHERE:
        from gptj.errors import UnsupportedFeature

        raise UnsupportedFeature(f"gptj has no {name}: {ELSEWHERE[name]}")
    if name not in PUBLIC:
        raise AttributeError(f"module 'gptj' has no attribute {name!r}.{suggest(name, PUBLIC)}")
    module, _, other_name = PUBLIC[name].partition(":")
    if module.startswith("gptj.backends."):
        from gptj.backends import get_backend

        get_backend(module.split(".")[2])  # a missing framework gets its own error
    return getattr(importlib.import_module(module), other_name or name)


def __dir__() -> list[str]:
    """List the public names, imported or not; but what is imported where all are looked up."""
    if sys._getframe(1).f_globals.get("__name__") == "inspect":  # for help(gptj)
        return sorted(name for name in globals() if name[:1] != "_")
    return sorted([*PUBLIC, "__version__"])


register_when_imported(SAVED_BY_KERAS)
