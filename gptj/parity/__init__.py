"""Run one checkpoint through several backends and the oracle, and report how far apart they are.

`gptj.parity(...)` is a function for users and `gptj.parity` a package for readers: importing any of
its modules binds the package to that name, so the package itself can be called.
"""

import sys
from types import ModuleType
from typing import Any


class _Parity(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from gptj.parity.report import parity

        return parity(*args, **options)


sys.modules[__name__].__class__ = _Parity
