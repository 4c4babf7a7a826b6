"""GPT-J in Flax. Every model class has its backend once this is imported."""

from gptj.backends.flax.backend import BACKEND

__all__ = ["BACKEND"]
