"""Watching a run that is still going: verdict, alerts, a rule that stops it."""
