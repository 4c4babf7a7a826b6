"""The documented path of the contract that every backend fulfils: see ``gptj.contract``."""

from gptj.contract.backend import Backend, Capabilities
from gptj.contract.trainer import Trainer

__all__ = ["Backend", "Capabilities", "Trainer"]
