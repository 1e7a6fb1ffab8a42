"""The report in a real browser: quiet, offline, sortable, readable point by point, dark, printable."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from entlaw.law.examined import examine_readings
from entlaw.report.html_page import page
from entlaw.runs.reader import scan

from ..conftest import law_records, write_jsonl
from .html_browser import Browser, find
from .html_browser import Page as Tab
from .html_helpers import about, logged, named

PROGRAM = find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no browser: `apt-get install chromium`, or ENTLAW_TEST_BROWSER=/path/to/chromium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(PROGRAM, Path(profile)) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten runs: eight of known laws, one under a hostile name, one refused, one unreadable."""
    folder = tmp_path_factory.mktemp("report")
    readings = [logged(folder, f"run-{i}", n=80, seed=i, a=0.1 + 0.03 * ((i * 5) % 8)) for i in range(8)]
    readings.append(
        named(readings[0], "<script>window.hacked = 1</script><img src=x onerror=window.hacked=2>")
    )
    flat = np.full(83, 0.7) + 0.001 * np.sin(np.arange(83))
    readings += scan(str(write_jsonl(folder / "flat.jsonl", law_records(n=80, entropy=flat))))
    (folder / "broken.jsonl").write_text("no log\n")
    readings += scan(str(folder / "broken.jsonl"))
    rows = examine_readings(readings)
    path = folder / "report.html"
    path.write_text(page(rows, about(rows)))
    return path


def quiet(tab: Tab, path: Path) -> None:
    """Nothing complained, nothing was loaded, nothing that a log said was run."""
    assert tab.complaints() == []
    assert tab.requests() == [path.as_uri()]
    assert tab.js("window.hacked === undefined") is True


def column(tab: Tab, at: int) -> list[str]:
    found: list[str] = tab.js(
        f"[...document.querySelectorAll('#runs tbody tr')].map(r => r.cells[{at}].dataset.v)"
    )
    return found


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_quiet_offline_and_fits(browser: Browser, report: Path, width: int, dark: bool) -> None:
    tab = browser.open(report, width, dark=dark)
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    ground = tab.js("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 24, 27)" if dark else "rgb(255, 255, 255)")
    assert tab.js("document.querySelectorAll('svg.plot').length") == 20
    picture = tab.screenshot()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    quiet(tab, report)


def test_sorting_by_click(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    before = column(tab, 2)
    assert tab.js("[...document.querySelectorAll('#runs th[aria-sort]')].every(h => h.ariaSort === 'none')")
    tab.click("#runs thead button", 2)
    known = sorted((v for v in before if v), key=float)
    assert column(tab, 2) == known + [""] * before.count("")
    assert tab.js("document.querySelectorAll('#runs thead th')[2].getAttribute('aria-sort')") == "ascending"
    tab.click("#runs thead button", 2)
    assert column(tab, 2) == known[::-1] + [""] * before.count("")  # what is missing is last either way
    assert tab.js("document.querySelectorAll('#runs thead [aria-sort=descending]').length") == 1
    tab.click("#runs thead button", 0)
    names = column(tab, 0)
    assert [n for n in names if n.startswith("run-")] == [f"run-{i}" for i in range(8)]
    quiet(tab, report)


def test_sorting_by_keyboard_alone(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    for _ in range(12):
        tab.key("Tab")
        if tab.js("document.activeElement.closest('#runs thead th') !== null"):
            break
    assert tab.js("document.activeElement.closest('th').cellIndex") == 0
    tab.key("Tab", 2)
    outline = tab.js("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    tab.key("Enter")
    values = [float(v) for v in column(tab, 2) if v]
    assert values == sorted(values) and len(set(values)) > 3
    tab.key(" ")
    assert [float(v) for v in column(tab, 2) if v] == values[::-1]
    assert "Sorted by Ceiling, descending" in tab.js("document.getElementById('live').textContent")


def test_every_control_can_be_reached_with_the_tab_key(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    tab.js("document.querySelector('details.run').open = true")
    seen = set()
    for _ in range(80):
        tab.key("Tab")
        seen.add(
            tab.js(
                "document.activeElement.id || document.activeElement.className?.baseVal || "
                "document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert {"skip", "theme", "print", "scroll", "filter", "all-points", "unfold", "plot", "points"} <= seen


def rows_of(tab: Tab, figure: int = 0) -> list[dict[str, str]]:
    link = tab.js(f"document.querySelectorAll('a.points')[{figure}].getAttribute('href')")
    return list(csv.DictReader(io.StringIO(unquote(link.split(",", 1)[1]))))


def after(pattern: str, told: str) -> str:
    """What the pattern's group found."""
    match = re.search(pattern, told)
    assert match is not None, told
    return match[1]


def test_a_hovered_point_tells_its_row_of_the_csv(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    tab.js("document.querySelector('details.run').open = true")
    rows = rows_of(tab)
    for at in (0, 5):
        index = int(
            tab.js(
                f"document.querySelectorAll('svg.plot')[1].querySelectorAll('use[data-i]')[{at}].dataset.i"
            )
        )
        x, y = tab.where("details.run svg.plot:nth-of-type(2) use[data-i]", at)
        tab.move(x + 1, y)
        told = tab.js("document.getElementById('tip').innerText")
        row = rows[index]
        assert f"Step {float(row['step']):g}" in told
        assert float(after(r"\bR = (\S+)", told)) == pytest.approx(float(row["performance"]), rel=2e-3)
        assert float(after(r"\bH = (\S+)", told)) == pytest.approx(float(row["entropy_used"]), rel=2e-3)
        assert float(after(r"Law = (\S+)", told)) == pytest.approx(float(row["law"]), rel=2e-3)
        # The same point is ringed in all three panels.
        rings = tab.js(
            "[...document.querySelectorAll('.ring')].map(r => [r.getAttribute('cx'), r.getAttribute('cy')])"
        )
        marks = tab.js(
            f"[...document.querySelector('figure').querySelectorAll('use[data-i=\"{index}\"]')]"
            ".map(u => [u.getAttribute('x'), u.getAttribute('y')])"
        )
        assert len(marks) == 3 and sorted(rings) == sorted(marks)
    tab.move(2, 2)
    assert tab.js("document.getElementById('tip').hidden") is True
    assert tab.js("document.querySelectorAll('.ring').length") == 0
    quiet(tab, report)


def test_points_are_read_by_keyboard_in_order_of_steps(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    tab.js("document.querySelector('details.run').open = true; document.querySelector('svg.plot').focus()")
    rows = rows_of(tab)
    steps = []
    tab.key("Home")
    for _ in range(4):
        said = tab.js("document.getElementById('live').textContent")
        steps.append(after(r"^Step (\S+), H ", said))
        tab.key("ArrowRight")
    assert steps == [f"{float(r['step']):g}" for r in rows[:4]]
    tab.key("End")
    assert f"Step {float(rows[-1]['step']):g}," in tab.js("document.getElementById('live').textContent")
    tab.key("ArrowRight")  # no further than the last
    assert f"Step {float(rows[-1]['step']):g}," in tab.js("document.getElementById('live').textContent")
    box = tab.js(
        "(()=>{const b=document.getElementById('tip').getBoundingClientRect();"
        "return [b.left, b.top, innerWidth-b.right, innerHeight-b.bottom, b.width]})()"
    )
    assert min(box) >= 0 and box[-1] > 20
    tab.key("Escape")
    assert tab.js("document.getElementById('tip').hidden") is True
    quiet(tab, report)


@pytest.mark.parametrize("dark", [False, True])
def test_the_toggle_changes_the_theme_and_it_is_kept(browser: Browser, report: Path, dark: bool) -> None:
    tab = browser.open(report, dark=dark)
    tab.js("localStorage.clear(); delete document.documentElement.dataset.theme")
    before = tab.js("getComputedStyle(document.body).backgroundColor")
    assert tab.js("document.getElementById('theme').textContent") == ("Light" if dark else "Dark")
    tab.click("#theme")
    after = tab.js("getComputedStyle(document.body).backgroundColor")
    assert {before, after} == {"rgb(255, 255, 255)", "rgb(21, 24, 27)"}
    again = browser.open(report, dark=dark)
    assert again.js("getComputedStyle(document.body).backgroundColor") == after
    again.js("localStorage.clear()")
    quiet(tab, report)


def test_where_storage_is_forbidden_as_in_mail_all_works(browser: Browser, report: Path) -> None:
    forbid = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    tab = browser.open(report, before=forbid)
    tab.click("#theme")
    assert tab.js("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    tab.click("#runs thead button", 2)
    assert tab.js("document.querySelectorAll('#runs thead [aria-sort=ascending]').length") == 1
    quiet(tab, report)


def test_the_filter_hides_rows_and_cards(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    tab.js("document.getElementById('filter').focus()")
    tab.type("refused")
    shown = "[...document.querySelectorAll('#runs tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].dataset.v)"
    assert tab.js(shown) == ["flat"]
    assert tab.js("[...document.querySelectorAll('details.run')].filter(r => !r.hidden).length") == 1
    assert tab.js("document.getElementById('count').textContent") == "1 of 11 runs"


def test_a_link_of_the_table_opens_its_run(browser: Browser, report: Path) -> None:
    tab = browser.open(report)
    assert tab.js("document.querySelectorAll('details.run')[7].open") is False
    tab.click("#runs tbody a", 7)
    assert tab.js("document.querySelectorAll('details.run')[7].open") is True
    tab.click("#unfold")
    assert tab.js("[...document.querySelectorAll('details.run')].every(d => d.open)") is True


def test_all_points_are_one_csv(browser: Browser, report: Path, tmp_path: Path) -> None:
    tab = browser.open(report)
    browser.call(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True
    )
    tab.click("#all-points")
    while not any(
        e["method"] == "Browser.downloadProgress" and e["params"]["state"] == "completed"
        for e in browser.events
    ):
        browser.events.append(browser.listen())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "points.csv").read_text())))
    assert len(rows) == sum(len(rows_of(tab, i)) for i in range(10))
    assert {r["run"] for r in rows} >= {
        "run-0",
        "flat",
        "<script>window.hacked = 1</script><img src=x onerror=window.hacked=2>",
    }
    assert [r["step"] for r in rows if r["run"] == "run-0"] == [r["step"] for r in rows_of(tab)]
    quiet(tab, report)


def test_without_javascript_everything_is_there_to_read(browser: Browser, report: Path) -> None:
    tab = browser.open(report, script=False)
    assert tab.js("document.querySelectorAll('#runs tbody tr').length") == 11
    assert tab.js("document.querySelectorAll('svg.plot use[data-i]').length") > 300
    assert (
        tab.js("document.getElementById('theme').checkVisibility()") is False
    )  # what needs a script is not offered
    tab.click("details.run summary")
    assert tab.js("document.querySelector('svg.plot').checkVisibility({contentVisibilityAuto: true})") is True
    assert tab.js("document.querySelector('svg.plot').getBoundingClientRect().height") > 200
    quiet(tab, report)


def test_paper_is_light_and_holds_every_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    tab = browser.open(report, dark=True)
    tab.js("document.documentElement.dataset.theme = 'dark'")
    data = tab.pdf()
    assert data.startswith(b"%PDF")
    assert tab.js("document.querySelectorAll('details.run[open]').length") == 0  # folded again afterwards
    tab.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert tab.js("getComputedStyle(document.documentElement).getPropertyValue('--bg').trim()") == "#ffffff"
    assert tab.js("getComputedStyle(document.getElementById('theme').parentElement).display") == "none"
    quiet(tab, report)
    text = pdf_text(data, tmp_path)
    if text is not None:
        assert text.count("Findings") == 10
        for words in ("Verdict", "run-7", "How this was done", "SHA-256"):
            assert words in text


def pdf_text(data: bytes, folder: Path) -> str | None:
    """Text of a PDF, where poppler is there to read it."""
    import shutil
    import subprocess

    if shutil.which("pdftotext") is None:
        return None
    (folder / "page.pdf").write_bytes(data)
    return subprocess.run(
        ["pdftotext", str(folder / "page.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
