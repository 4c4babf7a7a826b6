"""The documented path of the contract that every backend fulfils: see ``gptj.contract``."""

from gptj.contract.backend import Backend, Capabilities, FrameworkBackend
from gptj.contract.cache import Cache
from gptj.contract.model import Model
from gptj.contract.refusals import Refusals
from gptj.contract.trainer import Trainer

__all__ = ["Backend", "Cache", "Capabilities", "FrameworkBackend", "Model", "Refusals", "Trainer"]
