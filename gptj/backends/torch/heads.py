"""All heads of this backend, the base model among them."""

from gptj.backends.torch.causal_lm import GPTJForCausalLM
from gptj.backends.torch.model import GPTJModel
from gptj.backends.torch.question_answering import GPTJForQuestionAnswering
from gptj.backends.torch.sequence_classification import GPTJForSequenceClassification

__all__ = [
    "MODELS",
    "GPTJForCausalLM",
    "GPTJForQuestionAnswering",
    "GPTJForSequenceClassification",
    "GPTJModel",
]

MODELS = {
    model.head: model
    for model in (
        GPTJModel,
        GPTJForCausalLM,
        GPTJForSequenceClassification,
        GPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
