"""GPT-J in PyTorch. Every model class has its backend once this is imported."""

from gptj.backends.torch.backend import BACKEND

__all__ = ["BACKEND"]
