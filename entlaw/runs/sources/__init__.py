"""Log formats, one file each: a module here that holds a :class:`~entlaw.runs.source.Source` named ``SOURCE`` is one.

Nothing else lists them: :func:`sources` finds the modules of this package, and what other distributions offer under
the entry point group ``entlaw.sources``, and puts them in the order that each declares for itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from entlaw.runs.plugins import PlugIns, load
from entlaw.runs.source import Source


@cache
def sources() -> tuple[Source, ...]:
    """All sources, those of plug-ins too, in the order in which they are asked."""
    return tuple(sorted((*built_in(), *plug_ins().sources), key=lambda source: (source.order, source.name)))


@cache
def built_in() -> tuple[Source, ...]:
    """The sources of this package."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return tuple(module.SOURCE for module in modules)


@cache
def plug_ins() -> PlugIns:
    """The sources of other distributions, and what is wrong with those that cannot be loaded."""
    return load(source.name for source in built_in())
