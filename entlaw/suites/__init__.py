"""Evaluation suites: benchmarks side by side, one row a model, with standard errors that are right.

What flows: :mod:`.definition` (which sets) -> :mod:`.problems` (what is asked) -> :mod:`.collect` (responses, graded by
:mod:`.grade`, kept by :mod:`.store`) -> :mod:`.statistics` -> :mod:`.table` -> :mod:`.render`.
"""
