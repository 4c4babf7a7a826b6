"""The documented path of `Pretrained`, the base class of every backend's models."""

from gptj.model.pretrained import Pretrained

__all__ = ["Pretrained"]
