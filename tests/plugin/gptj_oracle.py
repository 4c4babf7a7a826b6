"""The example of a third-party backend: the oracle, plugged in as ``gptj.load(backend="oracle")``.

It is found through the entry point in the metadata beside this file, and uses only what any other
distribution could use. It is the NumPy backend in float64: parameters and outputs are float32, and
what other backends are compared with is computed in between. Contract: ``gptj.backends.base``.
"""

from typing import ClassVar

import numpy as np

from gptj.backends.base import Capabilities
from gptj.backends.numpy.backend import NumpyBackend
from gptj.backends.numpy.models import (
    NumpyGPTJForCausalLM,
    NumpyGPTJForQuestionAnswering,
    NumpyGPTJForSequenceClassification,
    NumpyGPTJModel,
)


class OracleModel(NumpyGPTJModel):
    """GPT-J without a head: token ids to hidden states."""

    backend_name = "oracle"
    computed_in = np.float64


class OracleForCausalLM(NumpyGPTJForCausalLM, OracleModel):
    """GPT-J with a language-model head: token ids to next-token logits."""


class OracleForSequenceClassification(NumpyGPTJForSequenceClassification, OracleModel):
    """GPT-J with a classification head on the last attended token of every sequence."""


class OracleForQuestionAnswering(NumpyGPTJForQuestionAnswering, OracleModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""


class OracleBackend(NumpyBackend):
    """GPT-J in NumPy, in float64."""

    name = "oracle"
    models: ClassVar = {
        model.head: model
        for model in (
            OracleModel,
            OracleForCausalLM,
            OracleForSequenceClassification,
            OracleForQuestionAnswering,
        )
    }
    capabilities = Capabilities(heads=tuple(models), gradients=True, capture=True)

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "NumPy, in float64"}


BACKEND = OracleBackend()
"""What the entry point names."""

OracleModel.backend = BACKEND
