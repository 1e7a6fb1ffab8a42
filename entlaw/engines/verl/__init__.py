"""verl (https://github.com/volcengine/verl) with our losses, advantages, verifiers and whole-batch choice of tokens.

:mod:`entlaw.engines.verl.plugin` is what verl loads, through the entry point group ``verl.plugins``, in every process
that imports it; the other modules turn a recipe into verl's configuration, prepare its data, and start it. Nothing here
imports verl before it is needed.
"""
