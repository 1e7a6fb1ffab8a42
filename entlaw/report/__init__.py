"""Figures, tables and pages made from fits."""
