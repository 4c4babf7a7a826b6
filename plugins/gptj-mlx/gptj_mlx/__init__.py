"""GPT-J in MLX: a backend that gptj finds through its entry point."""

from gptj_mlx.backend import BACKEND
from gptj_mlx.heads import (
    MLXGPTJForCausalLM,
    MLXGPTJForQuestionAnswering,
    MLXGPTJForSequenceClassification,
)
from gptj_mlx.model import MLXGPTJModel

__all__ = [
    "BACKEND",
    "MLXGPTJForCausalLM",
    "MLXGPTJForQuestionAnswering",
    "MLXGPTJForSequenceClassification",
    "MLXGPTJModel",
]
