"""The report's page without a browser: whole, self-contained, escaped, the same bytes, and right."""

import base64
import csv
import gzip
import hashlib
import io
import re
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entlaw.law.examined import examine_reading, examine_readings, label_runs
from entlaw.law.forecast import Outlook
from entlaw.law.settings import Settings
from entlaw.law.summary import format_number
from entlaw.report.html_page import page
from entlaw.report.html_plot import Axis, thin, thin_line
from entlaw.report.html_words import describe_all, describe_row, resource, sentence, sign_test
from entlaw.report.picture import points_csv
from entlaw.report.table import COLUMNS, data_uri, runs_csv
from entlaw.runs.reader import scan

from ..conftest import REPO, law_records, write_jsonl
from .html_helpers import Page, about, csv_of, logged, named, page_of

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "' onmouseover='alert(4)",
    "&lt;b&gt; &amp;",
    "${policy} $title {0} %s",
    "</style></title><h1>",
    '=HYPERLINK("http://x","y")',
    "left \u202e right \u2066 name",
    'line\nbreak\ttab,comma;"quote"',
)


@pytest.fixture
def reading(tmp_path):
    return logged(tmp_path)


@pytest.fixture
def mixed(tmp_path):
    """One run that obeys the law, one whose entropy does not fall, one log without entropy, one that is no log."""
    write_jsonl(tmp_path / "good.jsonl", law_records(n=120))
    flat = np.full(123, 0.7) + 0.001 * np.sin(np.arange(123))
    write_jsonl(tmp_path / "flat.jsonl", law_records(n=120, entropy=flat))
    write_jsonl(tmp_path / "blind.jsonl", [{"step": i, "val/accuracy": 0.1} for i in range(9)])
    (tmp_path / "broken.jsonl").write_bytes(b"\x00\x01 no log at all")
    return [r for n in ("good", "flat", "blind", "broken") for r in scan(str(tmp_path / f"{n}.jsonl"))]


# --- self-contained


def test_nothing_is_loaded_and_only_our_script_may_run(mixed):
    html = page_of(mixed)
    found = Page(html)
    assert not [e for e in found.elements if "src" in e.attributes or "srcset" in e.attributes]
    assert (
        not found.all("link") and not found.all("base") and not found.all("iframe") and not found.all("img")
    )
    for element in found.elements:
        assert not [k for k in element.attributes if k.startswith("on") or k == "style"]
        link = element.attributes.get("href", element.attributes.get("xlink:href", "#"))
        assert link.startswith(("#", "data:text/csv")) or element.tag == "a"
    style, script = found.all("style"), found.all("script")
    assert len(style) == len(script) == 1
    assert "url(" not in style[0].text and "@import" not in style[0].text
    assert not re.search(r"fetch\(|XMLHttp|import\(|WebSocket|sendBeacon|innerHTML|eval\(", script[0].text)
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for element in (style[0], script[0]):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{element.tag}-src 'sha256-{digest}'" in policy


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(mixed):
    found = Page(page_of(mixed))
    ids = [e.attributes["id"] for e in found.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"][1:] for e in found.elements if e.attributes.get("href", "").startswith("#")]
    assert links and set(links) <= set(ids)


def test_package_files_are_there_and_no_file_is_left_out_of_the_wheel():
    for file in (
        "report.html",
        "report.css",
        "report.js",
        "methods.html",
        "fit-paper.html",
        "fit-careful.html",
    ):
        assert resource(file)
    ignored = (REPO / ".gitignore").read_text().split()  # hatch leaves out what git ignores, and nothing else
    kinds = {path.suffix for path in (REPO / "entlaw" / "report" / "page").iterdir()}
    assert kinds and not {f"*{kind}" for kind in kinds} & set(ignored)
    assert "</script" not in resource("report.js") and "</style" not in resource("report.css")


# --- what comes from logs is text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_s_name_is_text_wherever_it_stands(reading, name):
    html = page_of([named(reading, name), reading], title=name, command=f"entlaw report '{name}'")
    found = Page(html)
    assert len(found.all("script")) == 1 and not found.all("img") and len(found.all("h1")) == 1
    assert found.all("title")[0].text == found.all("h1")[0].text == name
    rows = [e for e in found.all("th", scope="row") if "data-v" in e.attributes]
    shown = name.replace("\u202e", "\ufffd").replace(
        "\u2066", "\ufffd"
    )  # a log's name must not turn the text around it
    assert rows[0].text == rows[0].attributes["data-v"] == shown
    assert found.all("h3")[0].text == shown
    first = next(csv.DictReader(io.StringIO(csv_of(found.all("a", download="runs.csv")[0]))))
    assert not first["run"].startswith(("=", "+", "-", "@")) and "\n" not in first["run"]
    saved = found.all("a", class_="points")[0].attributes["download"]
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.csv", saved)


def test_control_characters_of_a_name_do_not_reach_the_page(reading):
    html = page_of([named(reading, "a\x00b\x1b[31mc\x7f\ud800")])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", html)
    html.encode()


def test_keys_and_values_of_a_log_are_text(tmp_path):
    evil = "val/<img src=x onerror=alert(1)>"
    records = law_records(n=60)
    for r in records:
        if "val/accuracy" in r:
            r[evil] = r.pop("val/accuracy")
    log = write_jsonl(tmp_path / "<b>x<b>.jsonl", records)
    from entlaw.runs.prepare import Selection

    [reading] = scan(str(log), Selection(on=evil))
    assert reading.run is not None
    found = Page(page_of([reading]))
    assert not found.all("img") and any(evil in e.text for e in found.all("dd"))
    assert found.all("h3")[0].text == "<b>x<b>"


def test_a_refused_and_a_broken_run_are_shown_with_their_reason(mixed):
    rows = examine_readings(mixed)
    assert rows[0].verdict in ("caution", "ok")
    assert [e.verdict for e in rows[1:]] == ["refused", "unreadable", "unreadable"]
    found = Page(page_of(mixed))
    cards = [e.text for e in found.all("div", class_="inside")]
    assert "The law gives no ceiling from steps up to 36: " in cards[1] and "Refused because:" in cards[1]
    assert rows[1].failure is not None and rows[1].failure.what in cards[1] and "Next:" in cards[1]
    for row, card in zip(rows[2:], cards[2:], strict=True):
        assert row.error is row.failure is not None and row.error.what.lower() in card.lower()
    assert len(found.all("svg", class_="plot")) == 4  # two a run that has points
    # The refused one shows its points and no law.
    laws = [e for e in found.all("path", class_="bl") if e.inside.count("figure")]
    assert len(laws) == 1


def test_one_run_and_none_that_can_be_used(mixed):
    one = Page(page_of(mixed[3:]))
    assert "cannot be read" in one.all("section", id="verdict")[0].text
    none = Page(page_of(mixed[1:]))
    assert (
        "A ceiling is given for 0 of 3 runs: 1 refused, 2 unreadable."
        in none.all("section", id="verdict")[0].text
    )


# --- numbers are right


def test_markers_stand_where_axes_and_csv_say(reading):
    """The page's own ticks give the scale; every marker, read by it, is the row of the CSV that it names."""
    found = Page(page_of([reading]))
    rows = list(csv.DictReader(io.StringIO(csv_of(found.all("a", class_="points")[0]))))
    law, steps = split_plots(page_of([reading]))

    def scale(svg, kind, place):
        marks = re.findall(rf'<text class="t {kind}" x="([\d.]+)" y="([\d.]+)">([−\d.]+)</text>', svg)
        px = [float(m[place]) - (4 if place else 0) for m in marks]
        return np.polyfit(px, [float(m[2].replace("−", "-")) for m in marks], 1)

    to_h, to_r = scale(law, "m", 0), scale(law, "e", 1)
    seen = re.findall(r'<use class="(m[fl])" href="#\w+" x="([\d.-]+)" y="([\d.-]+)" data-i="(\d+)"/>', law)
    assert {int(i) for *_, i in seen} == set(range(len(rows))) and len(seen) == len(rows)
    for kind, x, y, i in seen:
        row = rows[int(i)]
        assert np.polyval(to_h, float(x)) == pytest.approx(float(row["entropy_used"]), abs=3e-3)
        assert np.polyval(to_r, float(y)) == pytest.approx(float(row["performance"]), abs=2e-3)
        assert (kind == "mf") == (row["fitted"] == "1") == (float(row["step"]) <= 36)
    to_step = scale(steps, "m", 0)
    for x, i in re.findall(r'x="([\d.-]+)" y="[\d.-]+" data-i="(\d+)"', steps):
        assert np.polyval(to_step, float(x)) == pytest.approx(float(rows[int(i)]["step"]), abs=0.2)


def split_plots(html):
    return re.findall(r'<svg class="plot".*?</svg>', html, flags=re.DOTALL)


def test_the_downloads_are_the_numbers(reading):
    row = examine_reading(reading)
    assert row.result is not None and row.result.law is not None
    law, held, [made] = row.result.law, row.result.held_out, row.result.forecast.at
    found = Page(page_of([reading]))
    assert csv_of(found.all("a", class_="points")[0]) == points_csv(row.result)
    [told] = csv.DictReader(io.StringIO(csv_of(found.all("a", download="runs.csv")[0])))
    assert float(told["ceiling"]) == pytest.approx(law.ceiling, rel=1e-9)
    assert float(told["ceiling_lo"]) == pytest.approx(law.ceiling_interval.lo, rel=1e-9)
    assert float(told["held_out_rmse"]) == pytest.approx(held.rmse, rel=1e-9)
    assert float(told["forecast"]) == pytest.approx(made.median, rel=1e-9)
    assert told["verdict"] == row.verdict and told["n_fitted"] == str(law.n) and told["until_step"] == "36"


def test_the_points_csv_is_the_run_and_the_law(reading):
    """Against the frame that was read and the law's two numbers; the entropy is as logged after the window."""
    result = examine_reading(reading).result
    table = pd.read_csv(io.StringIO(points_csv(result)))
    read = reading.run.points
    for column, name in (("step", "step"), ("entropy_logged", "entropy"), ("performance", "performance")):
        np.testing.assert_allclose(table[column], read[name], rtol=1e-9)
    later = table[table["fitted"] == 0]
    assert (later["step"] > 36).all() and (later["entropy_used"] == later["entropy_logged"]).all()
    np.testing.assert_allclose(table["law"], result.b - result.a * np.exp(table["entropy_used"]), rtol=1e-6)


def test_the_ceiling_of_a_known_law_is_told_as_it_is(tmp_path):
    """b - a = 0.60 is known: the sentence's interval must hold it, and the ceiling be near it."""
    told, _ = describe_row(examine_reading(logged(tmp_path, n=120, noise=0.002)))
    found = re.search(r"ceiling from steps up to 36 is (\S+) \[(\S+), (\S+)\] \(95%\)", told)
    centre, lo, hi = map(float, found.groups())
    assert lo < 0.60 < hi and centre == pytest.approx(0.60, abs=0.02)


def test_which_forecast_is_closer_is_told_as_it_is(tmp_path):
    """The law is closer on a run that obeys it, the last value on one whose score stops while its entropy falls."""
    obeys = examine_reading(logged(tmp_path, n=120, noise=0.002))
    records = law_records(n=120, noise=0.002)
    last = max((r for r in records if "val/accuracy" in r and r["step"] <= 36), key=lambda r: r["step"])
    for r in records:
        if "val/accuracy" in r and r["step"] > 36:
            r["val/accuracy"] = last["val/accuracy"]
    stops = examine_reading(next(scan(str(write_jsonl(tmp_path / "stops.jsonl", records)))))

    def errors(row):
        _, pairs = describe_row(row)
        return map(
            float, re.search(r'RMSE (\S+) \(baseline "no change": (\S+)\)', dict(pairs)["held out"]).groups()
        )

    law, baseline = errors(obeys)
    assert law < baseline
    law, baseline = errors(stops)
    assert law > baseline == 0
    both = " ".join(describe_all([obeys, stops])[1])
    assert "on 1 of 2 runs (sign test p = 1.00): no clear difference." in both
    many = " ".join(describe_all([replace(obeys, label=str(i)) for i in range(9)])[1])
    assert (
        "on 9 of 9 runs (sign test p = 0.004): the law is better, as far as the runs are independent." in many
    )


def test_a_run_that_passes_its_ceiling_is_told_so(tmp_path):
    records = law_records(n=120, noise=0.002)
    for r in records:
        if "val/accuracy" in r and r["step"] > 60:
            r["val/accuracy"] += 0.15
    row = examine_reading(next(scan(str(write_jsonl(tmp_path / "up.jsonl", records)))))
    assert row.verdict == "passed" and "has been passed: do not quote it" in describe_row(row)[0]
    assert examine_reading(logged(tmp_path, "plain", n=120, noise=0.002)).verdict != "passed"
    both = describe_all([row, examine_reading(logged(tmp_path, "other", n=120, noise=0.002))])[1]
    assert "1 of 2 runs with later points passed their ceiling by more than noise." in both
    assert describe_all([row])[1][0].endswith("do not quote the ceilings of this set.")


def test_the_last_score_as_predicted_early_is_told(tmp_path):
    """The sentence holds the forecast from the window alone, and says whether its interval covers the last score."""
    row = examine_reading(logged(tmp_path, n=120, noise=0.002))
    seen = Outlook.of(row.reading.run, 36).forecast(116, 0.95)
    told = next(t for _, t in describe_row(row)[1] if t.startswith("predicted from"))
    pattern = (
        r"steps up to 36 \(model growth\): (\S+) at step 116, 95% \[(\S+), (\S+)\]; measured (\S+), (.*)"
    )
    *numbers, covered = re.search(pattern, told).groups()
    median, lo, hi, measured = map(float, numbers)
    assert (median, lo, hi) == pytest.approx((seen.median, seen.interval.lo, seen.interval.hi), abs=6e-4)
    assert covered == ("covered" if lo <= measured <= hi else "not covered")
    assert measured == pytest.approx(row.reading.run.points["performance"].iloc[-1], abs=6e-4)
    line = next(d for d in describe_all([row])[1] if d.startswith("Predicted from"))
    assert f"in {int(covered == 'covered')} of 1 runs" in line


def test_the_forecast_of_the_planned_end_is_told(tmp_path):
    row = examine_reading(logged(tmp_path, n=120), Settings(total_steps=400))
    [made] = row.result.forecast.at
    assert made.step == 400 and row.result.state == "running"
    told, pairs = describe_row(row)
    assert "By step 400 (the planned end), the chance" in told and f"At step 400: {made.median:.3f}" in told
    assert "If training continued" not in told
    assert dict(pairs)["forecast"].startswith(f"at step 400: {made.median:.3f}")
    assert any(d.startswith("By the planned end: 1 ") for d in describe_all([row])[1])
    over = examine_reading(logged(tmp_path, n=120), Settings(total_steps=120))
    assert "If training continued to step 232 (as long again)" in describe_row(over)[0]
    assert any(d.startswith("If training continued as long again: 1 ") for d in describe_all([over])[1])


def test_what_is_not_answered_has_no_number(mixed):
    found = Page(page_of(mixed))
    rows = [e for e in found.all("tr") if "tbody" in e.inside][: len(mixed)]
    cells = [e for e in found.all("td", class_="n") if "data-v" in e.attributes]
    per = len(COLUMNS) - 2
    assert len(rows) == len(mixed) and len(cells) == per * len(mixed)
    refused = cells[per : 2 * per]
    assert refused[0].attributes["data-v"] == "" and refused[0].text == "–"
    assert [c.attributes["data-v"] for c in cells[2 * per :]] == [""] * (2 * per)


def test_forced_fits_are_told_as_such(mixed):
    row = examine_reading(mixed[1], Settings(force=True))
    assert row.verdict == "refused" and row.result.law is not None and "do not use" in describe_row(row)[0]
    forced, refused = (page_of([mixed[1]], Settings(force=f)) for f in (True, False))
    assert "Error:" in forced and "Refused because:" not in forced
    assert "Refused because:" in refused and "Error:" not in refused
    assert f"{row.result.law.ceiling:.3f}" in forced


# --- sizes, sameness


def test_equal_input_gives_equal_bytes_and_no_date(mixed):
    first, again = page_of(mixed), page_of(mixed)
    assert first == again
    assert not re.search(r"\b20[2-3]\d-\d\d-\d\d\b", first)
    assert "2026-11-23" in page_of(mixed, date="2026-11-23")


def test_twenty_shipped_runs_stay_small_and_whole():
    found = sorted(p for p in (REPO / "runs").glob("*-rl0") if p.is_dir())[:20]
    rows = examine_readings([r for p in found for r in scan(str(p))])
    html = page(rows, about(rows))
    assert len(rows) == 20 and len(html.encode()) < 3_000_000
    parsed = Page(html)
    for e, link in zip(rows, parsed.all("a", class_="points"), strict=True):
        assert csv_of(link).count("\n") == len(e.reading.run.points) + 1


def test_two_hundred_runs_and_long_ones_are_thinned_not_cut(tmp_path):
    long = logged(tmp_path, n=700, every=1, noise=0.01)
    row = examine_reading(long, Settings(method="paper"))  # quickest to draw
    rows = [replace(row, label=f"{i}: {label}") for i, label in enumerate(label_runs([long] * 200))]
    html = page(rows, about(rows))
    assert len(html.encode()) < 12_000_000
    links = re.findall(r'<a class="points" download="[^"]*" href="([^"]*)"', html)
    assert len(links) == len(set(re.findall(r"<summary><h3>(.*?)</h3>", html))) == 200
    table = unquote(links[0].split(",", 1)[1]).splitlines()
    assert 80 <= len(table) - 1 < len(long.run.points)
    assert table[1].startswith("0,") and table[-1].startswith(f"{long.run.points['step'].iloc[-1]:g},")
    assert max(map(int, re.findall(r'data-i="(\d+)"', html))) <= len(table) - 2
    assert html.count("points are drawn") == 200


def test_labels_are_unique(reading):
    assert len(set(label_runs([reading] * 5))) == 5


@given(st.integers(1, 5000), st.integers(2, 400))
@settings(deadline=None, max_examples=80)
def test_thinning_keeps_the_ends(n, most):
    kept = thin(n, most)
    assert kept[0] == 0 and kept[-1] == n - 1 and len(kept) <= max(most, 2) and (np.diff(kept) > 0).all()


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=400), st.integers(1, 40))
@settings(deadline=None, max_examples=80)
def test_a_thinned_curve_keeps_its_peaks(values, buckets):
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    a, b = thin_line(x, y, buckets)
    assert b.max() == y.max() and b.min() == y.min() and (np.diff(a) > 0).all()
    assert len(a) <= max(2 * buckets + 2, 1) and a[0] == 0 and a[-1] == len(y) - 1
    assert all(y[int(i)] == v for i, v in zip(a, b, strict=True))


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e4), st.integers(2, 8))
@example(1.0, 401.0, 2)
@settings(deadline=None, max_examples=100)
def test_ticks_are_round_within_and_few(lo, span, about_so_many):
    ticks = Axis(lo, lo + span, 0, 100).ticks(about_so_many)
    assert 0 < len(ticks) <= about_so_many + 1
    assert ticks[0] >= lo - 1e-6 * span and ticks[-1] <= lo + span * (1 + 1e-6)


@given(st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=60)
def test_the_sign_test_is_scipy_s(counts):
    from scipy.stats import binomtest

    wins, n = counts
    expected = binomtest(wins, n, 0.5).pvalue if n else 1.0
    assert sign_test(wins, n) == pytest.approx(expected, rel=1e-9)


@given(st.one_of(st.floats(-1e300, 1e300), st.sampled_from([float("nan"), float("inf"), float("-inf")])))
@settings(deadline=None, max_examples=100)
def test_numbers_are_words_or_read_back(value):
    text = format_number(value)
    if not np.isfinite(value):
        assert text in ("unknown", "unbounded")
    else:
        assert text != "-0.000" and float(text) == pytest.approx(value, abs=6e-4, rel=6e-3)


def test_sentences_leave_keys_and_symbols_alone():
    assert sentence("entropy rose") == "Entropy rose."
    assert sentence("a = 0.1: slow") == "a = 0.1: slow."
    assert sentence("trainer.lr = 1") == "trainer.lr = 1."
    assert sentence("") == ""


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=100)
def test_a_data_link_holds_any_text(text):
    from html import escape
    from urllib.parse import unquote

    link = data_uri(text.encode("utf-8", "replace").decode())
    assert escape(link) == link and not re.search(r"[\s#\"'<>]", link)
    assert unquote(link.split(",", 1)[1]) == text.encode("utf-8", "replace").decode()


def test_the_table_s_csv_has_a_row_a_run(mixed):
    rows = list(csv.DictReader(io.StringIO(runs_csv(examine_readings(mixed)))))
    assert len(rows) == 4 and all(None not in r and None not in r.values() for r in rows)


# --- colours


def colours():
    css = resource("report.css")
    blocks = re.findall(r"(:root[^{]*)\{([^}]*)\}", css)
    sets = {sel.strip(): dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", body)) for sel, body in blocks}
    assert set(sets) == {":root", ':root:not([data-theme="light"])', ':root[data-theme="dark"]'}
    return sets


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    hi, lo = sorted((luminance(one), luminance(other)), reverse=True)
    return (hi + 0.05) / (lo + 0.05)


def test_contrast_of_text_and_of_marks():
    """WCAG 2.2: 4.5 for text; 3 for what a plot is read by, with the ceiling's mark outlined in ink."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for theme, c in colours().items():
        for text in ("ink", "soft", "link", "good", "care", "bad"):
            for ground in ("bg", "card"):
                assert contrast(c[text], c[ground]) >= 4.5, (theme, text, ground)
        for mark in ("fit", "later", "ceiling-line", "forecast", "entropy", "ink"):
            assert contrast(c[mark], c["bg"]) >= 3, (theme, mark)
        for mark in ("fit", "later", "forecast", "ink"):
            for band in ("band-line", "band-next"):
                assert contrast(c[mark], c[band]) >= (3 if mark in ("ink", "fit") else 2.5), (
                    theme,
                    mark,
                    band,
                )
        assert contrast(c["bg"], c["ink"]) >= 4.5  # the tooltip


def test_both_dark_sets_are_one():
    sets = colours()
    dark = sets[':root:not([data-theme="light"])']
    assert dark == sets[':root[data-theme="dark"]'] and set(dark) == set(sets[":root"])


def test_marks_differ_in_shape_and_in_lightness():
    """Told apart without colour: other outlines, and other greys in print."""
    from entlaw.report.html_plot import SYMBOLS

    shapes = dict(re.findall(r'id="(m\w)" ?([^/]*)/>', SYMBOLS))
    assert len(shapes) == 4 and len({s.split("=")[0] + s[:12] for s in shapes.values()}) >= 3
    light = colours()[":root"]
    fills = [luminance(light[k]) for k in ("fit", "bg", "ceiling")]
    assert min(abs(a - b) for i, a in enumerate(fills) for b in fills[:i]) > 0.15


# --- shipped as a gzip, or from a folder: the provenance is that of the file


def test_the_checksum_is_the_file_s(tmp_path):
    from entlaw.cli.app import run

    plain = write_jsonl(tmp_path / "a.jsonl", law_records())
    other = write_jsonl(tmp_path / "other.jsonl", law_records(seed=1))
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(other.read_bytes(), mtime=0))
    out = tmp_path / "r.html"
    assert run(["report", str(plain), str(packed), "-o", str(out)]) == 0
    html = out.read_text()
    for file in (plain, packed):
        assert (
            hashlib.sha256(file.read_bytes()).hexdigest() in html and f"{file.stat().st_size:,} bytes" in html
        )
