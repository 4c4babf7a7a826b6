"""A machine with GPUs that is not there: PyTorch computes on the CPU and believes otherwise.

Every tensor carries the device that it would be on. An operation on tensors of different devices
fails as it would there, and all values are the real ones.
"""

from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from gptj.backends.torch import params

CPU = torch.device("cpu")
DEVICE = torch.Tensor.device.__get__
SET_DATA = torch.Tensor.data.__set__  # how a module moves its parameters
MAY_MIX = (torch.autograd.grad, torch._has_compatible_shallow_copy_type)


def place_of(tensor):
    return getattr(tensor, "place", CPU)


def put(tensor, place):
    tensor.place = place
    return tensor


def tensors_in(*values):
    return [value for value in _pytree.tree_leaves(values) if isinstance(value, torch.Tensor)]


def compute(function, args, kwargs):
    """Compute on one device, where the result is too, unless it is told another."""
    target = kwargs.pop("device", None)
    given = tensors_in(args, kwargs)
    places = {place_of(x) for x in given if x.ndim or place_of(x) != CPU}
    name = getattr(function, "__name__", str(function))
    assert len(places) < 2 or function in MAY_MIX, f"{name} mixes {sorted(map(str, places))}"
    assert function is not torch.Tensor.numpy or places <= {CPU}, "numpy() of a GPU's tensor"
    place = torch.device(target) if target is not None else next(iter(places), CPU)
    result = function(*args, **kwargs)
    for made in tensors_in(result):
        if not any(made is x for x in given):
            put(made, place)
    return result


class Machine(TorchFunctionMode):
    """Inside, tensors are where they were put.

    `moves` is what went from where to where, and `made` where parameters were when they were made.
    """

    def __init__(self, monkeypatch, gpus=2):
        super().__init__()
        self.moves, self.made = [], []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        # a parameter is made out of sight of this mode
        monkeypatch.setattr(params, "nn", SimpleNamespace(Parameter=self.parameter))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function == DEVICE:
            return place_of(args[0])
        if function is torch.Tensor.to:
            return self.move(*args, **kwargs)
        if function is torch.Tensor.cpu:
            return self.move(*args, CPU)
        if function == SET_DATA:
            put(args[0], place_of(args[1]))
        return compute(function, args, kwargs)

    def parameter(self, value, requires_grad=True):
        self.made.append(place_of(value))
        return put(torch.nn.Parameter(value, requires_grad), place_of(value))

    def move(self, tensor, *args, **kwargs):
        """What ``tensor.to`` does: a copy elsewhere, or the same tensor."""
        target = next((x for x in args if isinstance(x, str | torch.device)), None)
        target = kwargs.pop("device", None) if target is None else target
        dtype = next((x for x in args if isinstance(x, torch.dtype)), kwargs.get("dtype"))
        source = place_of(tensor)
        target = source if target is None else torch.device(target)
        result = tensor if dtype is None else tensor.to(dtype)
        if target == source and result is tensor:
            return tensor
        if target != source:
            self.moves.append((tuple(tensor.shape), str(source), str(target)))
        return put(result.view_as(result) if result is tensor else result, target)
