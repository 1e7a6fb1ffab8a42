"""Packages whose names are verbs of the Python API too: ``entlaw.watch(...)`` calls the function of that name."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that can be called like the function of its name in :mod:`entlaw.api`."""

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Call the function."""
        return getattr(importlib.import_module("entlaw.api"), self.__name__.rpartition(".")[2])(
            *given, **more
        )


def make_callable(package: str) -> None:
    """Let a package that is being imported be called."""
    sys.modules[package].__class__ = CallablePackage
