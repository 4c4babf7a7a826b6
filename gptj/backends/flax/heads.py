"""All heads of this backend, the base model among them."""

from gptj.backends.flax.causal_lm import FlaxGPTJForCausalLM
from gptj.backends.flax.model import FlaxGPTJModel
from gptj.backends.flax.question_answering import FlaxGPTJForQuestionAnswering
from gptj.backends.flax.sequence_classification import FlaxGPTJForSequenceClassification

__all__ = [
    "MODELS",
    "FlaxGPTJForCausalLM",
    "FlaxGPTJForQuestionAnswering",
    "FlaxGPTJForSequenceClassification",
    "FlaxGPTJModel",
]

MODELS = {
    model.head: model
    for model in (
        FlaxGPTJModel,
        FlaxGPTJForCausalLM,
        FlaxGPTJForSequenceClassification,
        FlaxGPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
