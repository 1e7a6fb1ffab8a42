"""Alerts delivered: to a real HTTP server, and what happens when it is away."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from entlaw.errors import UsageError
from entlaw.law.result import examine
from entlaw.points import Points
from entlaw.watch.notify import Bell, Notifier, WandbAlert, Webhook
from entlaw.watch.report import Alert, WatchReport


class Hook:
    """A webhook that answers as told."""

    def __init__(self, *answers):
        self.answers, self.got = list(answers), []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code = hook.answers.pop(0) if hook.answers else 200
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-token"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


ALERT = Alert("stop-rule", 40.0, "it held", "nothing is left")


def report(alerts=(ALERT,)):
    step = np.arange(0.0, 40.0, 4.0)
    h = np.exp(-step / 20)
    result = examine(Points.from_arrays(step, h, 0.8 - 0.2 * np.exp(h)), name="grpo")
    return WatchReport(result, 30.0, None, tuple(alerts))


def test_a_webhook_gets_words_and_data(hook):
    told = []
    Notifier([Webhook(hook.url)], told.append).send(report(), {})
    (got,) = hook.got
    assert got["text"] == "grpo, step 36: it held (nothing is left)"
    assert got["report"]["law"]["covariance"] == report().result.law.covariance.tolist()
    assert got["alert"]["code"] == "stop-rule" and got["report"]["schema"] == "entlaw.watch/2"
    assert told == []


def test_nothing_is_sent_without_an_alert(hook):
    Notifier([Webhook(hook.url)], lambda text: None).send(report(alerts=()), {})
    assert hook.got == []


@pytest.mark.parametrize(
    ("answers", "tries", "complains"), [((503, 429), 3, False), ((500,) * 3, 3, True), ((404,), 1, True)]
)
def test_it_is_tried_again_where_that_may_help(hook, answers, tries, complains):
    hook.answers = list(answers)
    told = []
    Notifier([Webhook(hook.url)], told.append).send(report(), {})
    assert len(hook.got) == tries
    assert bool(told) is complains
    assert not any("secret" in text for text in told)


def test_a_webhook_that_is_away_is_told_once_and_ends_nothing():
    gone = Hook()
    gone.close()
    told, rung = [], []
    notifier = Notifier([Webhook(gone.url), Bell(lambda: rung.append(1))], told.append)
    for _ in range(3):
        notifier.send(report(), {})
    assert len(told) == 1 and "the watching goes on" in told[0] and "secret" not in told[0]
    assert len(rung) == 3


def test_after_it_came_back_its_next_failure_is_told_again(hook):
    told = []
    notifier = Notifier([Webhook(hook.url)], told.append)
    for answers in ((404,), (), (404,)):
        hook.answers = list(answers)
        notifier.send(report(), {})
    assert len(told) == 2


def test_what_is_no_url_is_said_at_once():
    with pytest.raises(UsageError, match="http"):
        Webhook("ftp://example.com")


def test_a_wandb_alert_needs_a_run_on_a_server():
    told = []
    Notifier([WandbAlert()], told.append).send(report(), {})
    assert len(told) == 1 and "only runs on a W&B server" in told[0]
