"""Parts of the trainer by name: a recipe's choices, rules, verl's names and the docs are read from these tables.

A part is one decorated function (or small class) in one file, and says what it needs by its parameters, as pytest's
fixtures do: :class:`Function` reads them. A name that nobody registered is an error wherever it is looked up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from entlaw.errors import UsageError, nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """Parts of one kind by name, in the order in which they were added.

    Parameters
    ----------
    what : str
        The kind, for messages: "advantage estimator".
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def add(self, name: str, part: T) -> None:
        """Register a part.

        Raises
        ------
        ValueError
            The name is taken.
        """
        if name in self:
            raise ValueError(f"there are two of the {self.what} {name!r}")
        self[name] = part

    def __missing__(self, name: str) -> T:
        hint = nearest(str(name), self) or f"there are {', '.join(self)}"
        raise UsageError(f"there is no {self.what} {name!r}", hint=hint)


@dataclass(frozen=True)
class Function:
    """A registered function.

    Attributes
    ----------
    reference : str
        Where it is from: arXiv numbers, or authors and year.
    formula : str
        One line for tables.
    """

    call: Callable[..., Any]
    reference: str
    formula: str
    wants: Mapping[str, bool] = field(init=False)
    """Its parameters by name, and whether it can do without; those behind a ``*`` are its own affair."""

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.call).parameters.values()
        asked = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        object.__setattr__(self, "wants", {p.name: p.default is not p.empty for p in asked})

    @property
    def name(self) -> str:
        """The function's own."""
        return self.call.__name__

    def given(self, *sources: object, after: int = 0) -> dict[str, Any]:
        """Its arguments: each from the first source that has an attribute of that name and a value in it.

        Parameters
        ----------
        after : int
            So many at the front are given otherwise.

        Raises
        ------
        ValueError
            Nobody has one that it cannot do without.
        """
        found: dict[str, Any] = {}
        for name, optional in list(self.wants.items())[after:]:
            values = [getattr(source, name) for source in sources if hasattr(source, name)]
            value = next((v for v in values if v is not None), None)
            if value is not None:
                found[name] = value
            elif not optional or not values:  # a misspelt setting must not be its default in silence
                raise ValueError(f"{self.name} asks for {name}, which it is not given")
        return found
