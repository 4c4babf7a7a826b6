"""All heads of this backend, the base model among them."""

from gptj.backends.tf.causal_lm import TFGPTJForCausalLM
from gptj.backends.tf.model import TFGPTJModel
from gptj.backends.tf.question_answering import TFGPTJForQuestionAnswering
from gptj.backends.tf.sequence_classification import TFGPTJForSequenceClassification

__all__ = [
    "MODELS",
    "TFGPTJForCausalLM",
    "TFGPTJForQuestionAnswering",
    "TFGPTJForSequenceClassification",
    "TFGPTJModel",
]

MODELS = {
    model.head: model
    for model in (
        TFGPTJModel,
        TFGPTJForCausalLM,
        TFGPTJForSequenceClassification,
        TFGPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
