"""Every spelling of ``trainers.toml`` is read: a small log of its keys, by each logger that is said to be read."""

import json

import pytest

from entlaw.errors import MissingSeries
from entlaw.runs.choose import choose_entropy
from entlaw.runs.keys import canonical
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import read
from entlaw.runs.trainers import LOGGERS, recognise, trainers
from tests.conftest import REPO, write_jsonl
from tests.runs import test_tensorboard as tb
from tests.runs import wandb_writer
from tests.runs.test_choose import table

N = 40
READ = [
    pytest.param(trainer, log, logger, id=f"{trainer['name']} {log['entropy']} {logger}")
    for trainer in trainers()
    for log in trainer.get("logs", ())
    for logger in LOGGERS
    if trainer[logger] == "read" and logger in log.get("loggers", LOGGERS)
]


def records_of(log):
    """Plausible values under the keys of a spelling, evaluations every fourth step."""
    out = []
    for step in range(1, N + 1):
        record = {log["entropy"]: 1.5 - step / N, log["training"]: 0.2 + step / (2 * N)}
        record |= dict.fromkeys(log["beside"], 0.5)
        if step % 4 == 0 and "validation" in log:
            record[log["validation"]] = 0.1 + step / (2 * N)
        out.append(record)
    return out


def nested(record):
    out = {}
    for key, value in record.items():
        section, _, rest = key.partition("/")
        out.setdefault(section, {})[rest] = value
    return out


def write_console(folder, records, form):
    lines = []
    for step, record in enumerate(records, 1):
        if form == "verl":
            lines.append(" - ".join([f"step:{step}", *(f"{k}:{v}" for k, v in record.items())]))
        else:
            lines.append(str({"loss": 0.1, **record, "epoch": step / 100}))
    path = folder / "console.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_json(folder, records, form):
    rows = [{"step": step, **record} for step, record in enumerate(records, 1)]
    if form == "trainer_state":
        path = folder / "trainer_state.json"
        path.write_text(json.dumps({"global_step": N, "log_history": rows}))
        return path
    if form == "nested":
        rows = [{"step": step, **nested(record)} for step, record in enumerate(records, 1)]
    return write_jsonl(folder / "metrics.jsonl", rows)


def write_wandb(folder, records, form):
    rows = [wandb_writer.history({"_step": step, **record}) for step, record in enumerate(records, 1)]
    path = folder / "run-id1.wandb"
    path.write_bytes(wandb_writer.frame([wandb_writer.run("id1"), *rows, wandb_writer.exit_()]))
    return path


def write_tensorboard(folder, records, form):
    events = [tb.event(step, **record) for step, record in enumerate(records, 1)]
    path = folder / "events.out.tfevents.1700000000.host.1.0"
    tb.write(path, [tb.version(), *events])
    return path


WRITE = dict(zip(LOGGERS, (write_console, write_json, write_wandb, write_tensorboard), strict=True))


@pytest.mark.parametrize("trainer, log, logger", READ)
def test_a_log_with_these_keys_is_read_with_them(tmp_path, trainer, log, logger):
    path = WRITE[logger](tmp_path, records_of(log), trainer.get(f"{logger}_form"))
    (run,) = read(path)
    wanted = log.get("validation", log["training"])
    assert canonical(run.entropy.key) == canonical(log["entropy"])
    assert canonical(run.performance_key) == canonical(wanted)
    assert run.entropy.unit == "nats/token"
    (run,) = read(path, Selection(on="train"))
    assert canonical(run.performance_key) == canonical(log["training"])


@pytest.mark.parametrize("trainer", trainers(), ids=lambda t: t["name"])
def test_the_table_is_whole(trainer):
    assert {trainer[logger] for logger in LOGGERS} <= {"read", "not logged", "not verified"}
    assert trainer["source"] and trainer["versions"]
    assert trainer.get("logs") or "read" not in {trainer[logger] for logger in LOGGERS}


@pytest.mark.parametrize(
    "trainer, log",
    [(t, log) for t in trainers() for log in t.get("logs", ())],
    ids=lambda x: x.get("name", x.get("entropy")),
)
def test_a_log_without_its_entropy_says_how_to_turn_it_on(trainer, log):
    keys = [key for key in (log["training"], *log["beside"]) if "entropy" not in key]
    with pytest.raises(MissingSeries, match="no entropy") as caught:
        choose_entropy(table({**dict.fromkeys(keys, 1), "zeta/unrelated": 1}), {})
    hint = caught.value.hint
    assert log["training"] in hint
    known = recognise(keys, {})
    if known is not None and known["name"] == trainer["name"]:
        assert trainer["turn_on"] in hint


SHARED_KEYS = {"ms-swift": "TRL (GRPO, RLOO)", "rLLM": "verl"}


@pytest.mark.parametrize("trainer", [t for t in trainers() if t.get("logs")], ids=lambda t: t["name"])
def test_a_log_is_recognised_without_its_entropy(trainer):
    """By keys that one trainer alone logs; one built on another may be taken for that one, or for none."""
    for log in trainer["logs"]:
        keys = [log["training"], log.get("validation", log["training"]), *log["beside"]]
        known = recognise([key for key in keys if "entropy" not in key], {})
        allowed = {trainer["name"], SHARED_KEYS.get(trainer["name"], trainer["name"])}
        assert (known is None and trainer["name"] in SHARED_KEYS) or known["name"] in allowed


def test_the_page_has_every_trainer():
    page = (REPO / "docs" / "trainers.md").read_text()
    assert all(f"| {t['name']} |" in page for t in trainers())
