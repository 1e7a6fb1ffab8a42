"""Watching a run that is still going: verdict, alerts, a rule that stops it."""

from entlaw.verb import make_callable

make_callable(__name__)
