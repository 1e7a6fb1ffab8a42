"""Figures, tables and pages made from fits."""

from entlaw.verb import make_callable

make_callable(__name__)
