"""``score``: a method whose name is that of a layer in one head."""

from collections.abc import Callable
from types import MethodType
from typing import Any, overload

from gptj.scoring.options import ScoreMethod
from gptj.spec.heads import find_head


class UnlessALayer:
    """Makes a method of every model but those whose head has a layer of the same name.

    The published classification head is called ``score``, and PyTorch looks for layers only where
    a class has no attribute of that name.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        """Keep the method, whose docstring is shown for this."""
        self.method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, model: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, model: object, owner: type) -> ScoreMethod: ...
    def __get__(self, model: Any, owner: type) -> Any:
        """Return the method, bound to a model if there is one; or that model's layer."""
        name = self.method.__name__
        if model is None:
            return self.method
        if name not in find_head(model.head).modules:
            return MethodType(self.method, model)
        find_layer = getattr(model, "__getattr__", None)
        if find_layer is None:
            raise AttributeError(
                f"{owner.__name__} has no method {name}(): its head has a layer of that name."
            )
        # PyTorch would look there after an AttributeError, but not while compiling
        return find_layer(name)
