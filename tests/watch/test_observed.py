"""What a watcher inside a trainer keeps of what is logged."""

import re

from entlaw.runs.keys import EntropyRule
from entlaw.runs.prepare import Selection
from entlaw.watch import observed


def test_an_entropy_is_kept_by_every_spelling_that_the_reader_knows(monkeypatch):
    rule = EntropyRule(re.compile(r"policy_ent_mean"), "somebody's trainer", {"unit": "nats/token"})
    monkeypatch.setattr(observed, "ENTROPY_RULES", (*observed.ENTROPY_RULES, rule))
    log = observed.ObservedLog(Selection())
    assert not log.take(0, {"policy/ent_mean": 1.2, "lr": 1e-6})  # no score yet
    log.take(1, {"policy/ent_mean": 1.1, "val/accuracy": 0.3, "lr": 1e-6})
    assert set(log.frame().columns) == {"step", "policy/ent_mean", "val/accuracy"}
