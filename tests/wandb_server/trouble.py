"""What can go wrong inside the server itself."""

from __future__ import annotations


class NotThere(LookupError):
    """A run, file or artifact that the server does not have; answered by 404."""


class Unanswered(NotImplementedError):
    """An operation that this server does not know; answered by a GraphQL error, and kept for the test to see."""
