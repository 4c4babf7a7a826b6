"""The types of the public names: each is what its module says; see ``PUBLIC``."""

from typing import Final

from gptj.api import generate, load, load_tokenizer
from gptj.backends.flax.heads import (
    FlaxGPTJForCausalLM,
    FlaxGPTJForQuestionAnswering,
    FlaxGPTJForSequenceClassification,
    FlaxGPTJModel,
)
from gptj.backends.flax.heads import FlaxGPTJForCausalLM as FlaxAutoModelForCausalLM
from gptj.backends.flax.heads import (
    FlaxGPTJForQuestionAnswering as FlaxAutoModelForQuestionAnswering,
)
from gptj.backends.flax.heads import (
    FlaxGPTJForSequenceClassification as FlaxAutoModelForSequenceClassification,
)
from gptj.backends.flax.heads import FlaxGPTJModel as FlaxAutoModel
from gptj.backends.tf.heads import (
    TFGPTJForCausalLM,
    TFGPTJForQuestionAnswering,
    TFGPTJForSequenceClassification,
    TFGPTJModel,
)
from gptj.backends.tf.heads import TFGPTJForCausalLM as TFAutoModelForCausalLM
from gptj.backends.tf.heads import TFGPTJForQuestionAnswering as TFAutoModelForQuestionAnswering
from gptj.backends.tf.heads import (
    TFGPTJForSequenceClassification as TFAutoModelForSequenceClassification,
)
from gptj.backends.tf.heads import TFGPTJModel as TFAutoModel
from gptj.backends.torch.backend import infer_device
from gptj.backends.torch.heads import (
    GPTJForCausalLM,
    GPTJForQuestionAnswering,
    GPTJForSequenceClassification,
    GPTJModel,
)
from gptj.backends.torch.heads import GPTJForCausalLM as AutoModelForCausalLM
from gptj.backends.torch.heads import GPTJForQuestionAnswering as AutoModelForQuestionAnswering
from gptj.backends.torch.heads import (
    GPTJForSequenceClassification as AutoModelForSequenceClassification,
)
from gptj.backends.torch.heads import GPTJModel as AutoModel
from gptj.datasets.classification import classification_dataset
from gptj.datasets.question_answering import question_dataset
from gptj.datasets.text import text_dataset
from gptj.errors import GPTJError
from gptj.exporting.export import export
from gptj.generation.options import GenerationConfig
from gptj.generation.streaming import TextIteratorStreamer, TextStreamer
from gptj.model.config import GPTJConfig
from gptj.model.config import GPTJConfig as AutoConfig
from gptj.model.lora import add_lora, load_lora
from gptj.parity.report import parity
from gptj.prediction.predict import predict
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer import GPTJTokenizer as AutoTokenizer
from gptj.tools.convert import convert
from gptj.tools.init import init
from gptj.tools.inspect import inspect
from gptj.tools.plan import plan
from gptj.training.finetune import finetune

PUBLIC: Final[dict[str, str]]
__version__: str

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "FlaxAutoModel",
    "FlaxAutoModelForCausalLM",
    "FlaxAutoModelForQuestionAnswering",
    "FlaxAutoModelForSequenceClassification",
    "FlaxGPTJForCausalLM",
    "FlaxGPTJForQuestionAnswering",
    "FlaxGPTJForSequenceClassification",
    "FlaxGPTJModel",
    "GPTJConfig",
    "GPTJError",
    "GPTJForCausalLM",
    "GPTJForQuestionAnswering",
    "GPTJForSequenceClassification",
    "GPTJModel",
    "GPTJTokenizer",
    "GenerationConfig",
    "TFAutoModel",
    "TFAutoModelForCausalLM",
    "TFAutoModelForQuestionAnswering",
    "TFAutoModelForSequenceClassification",
    "TFGPTJForCausalLM",
    "TFGPTJForQuestionAnswering",
    "TFGPTJForSequenceClassification",
    "TFGPTJModel",
    "TextIteratorStreamer",
    "TextStreamer",
    "add_lora",
    "classification_dataset",
    "convert",
    "export",
    "finetune",
    "generate",
    "infer_device",
    "init",
    "inspect",
    "load",
    "load_lora",
    "load_tokenizer",
    "parity",
    "plan",
    "predict",
    "question_dataset",
    "text_dataset",
]

def __dir__() -> list[str]: ...
