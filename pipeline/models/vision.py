"""torchvision's ResNet-18, imported without PyTorch's compiler, which takes as long as PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_ASKED = f"{_COMPILER}.utils"
_QUESTION = "is_compile_supported"


@contextmanager
def compiler_left_out() -> Iterator[None]:
    """Within it torchvision is imported, and PyTorch's compiler isn't.

    An operator of torchvision's asks the compiler a question when it is called, but imports the
    compiler for it at once: 870 modules, a second and 146 MB in every actor (docs/speed.md).
    Meanwhile stand-ins take its place. That question loads the compiler once it is asked; whatever
    else is wanted of it, as by another torchvision, loads it then and there.
    """
    # None of it where another thread has begun to load the compiler.
    if sys.modules.setdefault(_COMPILER, stand_in := _StandIn(_COMPILER)) is not stand_in:
        yield
        return
    sys.modules.setdefault(_ASKED, _StandIn(_ASKED))
    try:
        yield
    finally:
        _take_away()


class _StandIn(ModuleType):
    """A module that is loaded when something of it is wanted."""

    def __getattr__(self, name: str) -> Any:
        if (self.__name__, name) == (_ASKED, _QUESTION):
            return _is_compile_supported
        # Python looks for names of its own in every module; `__path__` means a module within it.
        if name.startswith("__") and (self.__name__, name) != (_COMPILER, "__path__"):
            raise AttributeError(name)
        _take_away()
        return getattr(import_module(self.__name__), name)


def _take_away() -> None:
    for name in (_COMPILER, _ASKED):
        if isinstance(sys.modules.get(name), _StandIn):
            sys.modules.pop(name, None)


def _is_compile_supported(device: str) -> bool:
    supported: bool = import_module(_ASKED).is_compile_supported(device)
    return supported


with compiler_left_out():
    from torchvision.models import ResNet, ResNet18_Weights, resnet18

__all__ = ["ResNet", "ResNet18_Weights", "resnet18"]
