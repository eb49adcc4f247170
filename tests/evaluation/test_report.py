import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from ragtune.errors import EvaluationError
from ragtune.evaluation.report import report_from_folder, verdict, write_report

NBSP = "\N{NO-BREAK SPACE}"
PHONE_WIDTH = 375


@pytest.fixture
def page(report_inputs, tmp_path):
    write_report(tmp_path / "report.html", **report_inputs)
    return tmp_path / "report.html"


@pytest.fixture
def render(tmp_path):
    """The DOM of a page as a real browser builds it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on the PATH: install it to test the report in a real browser")

    def dump(page):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout

    return dump


class Text(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.parts, self.tags, self.links = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]

    def handle_data(self, data):
        self.parts.append(data)

    def __str__(self):
        return " ".join(" ".join(self.parts).split(" "))


def test_the_report_says_how_far_each_part_has_moved_where_that_is_known(report_inputs, page):
    assert "What each part learnt" not in str(Text(page.read_text()))
    moved = {"moved_question_encoder": 0.0123, "moved_generator": 0.0}
    write_report(page, **report_inputs | {"metrics": report_inputs["metrics"] | moved})
    shown = str(Text(page.read_text()))
    assert "What each part learnt" in shown
    assert "question encoder 1.23 % generator 0 %" in shown


def test_a_browser_shows_the_figures(page, render):
    shown = str(Text(render(page)))
    assert f"Fine-tuning raised exact match from 11.2{NBSP}% to 72.4{NBSP}%." in shown
    for figure in (f"43.1{NBSP}%", f"91.2{NBSP}%", "+61.2", "+56.2 to +66.2", f"8.3{NBSP}%", "5,121", "181.2", "kb_v1"):
        assert figure in shown, figure


def test_the_page_fits_a_phone(page, render, tmp_path):
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<iframe src="report.html" style="width:{PHONE_WIDTH}px;height:800px;border:0"></iframe><p>…</p><script>'
        "const frame = document.querySelector('iframe');"
        "frame.onload = () => { const page = frame.contentDocument.documentElement,"
        " text = document.querySelector('p');"
        "text.textContent = `${page.scrollWidth - page.clientWidth} pixels too wide`; };</script>"
    )
    assert "<p>0 pixels too wide</p>" in render(frame)


def test_the_page_asks_nothing_of_the_outside(page):
    html = page.read_text()
    parsed = Text(html)
    assert parsed.links == []
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(parsed.tags)
    assert not re.search(r"url\(|@import|https?:", html)


def test_what_questions_and_passages_say_is_escaped(page):
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html and "Title 1 &lt;&amp;&gt;" in html


def test_ten_won_and_all_five_lost_questions_are_shown(page):
    html = page.read_text()
    won, lost = html.index('id="won"'), html.index('id="lost"')
    assert html[won:lost].count("<article>") == 10
    assert html[lost:].count("<article>") == 5
    assert "40 questions; 10 of them" in html


@pytest.fixture
def with_champion(report_inputs):
    """The same run beside a champion that answers 30 of the 60 questions, ten of which this model gets wrong."""
    rows = [row | {"em_champion": float(number < 30)} for number, row in enumerate(report_inputs["predictions"])]
    metrics = dict(report_inputs["metrics"])
    for name, low, high in (("em", 0.05, 0.45), ("f1", 0.1, 0.4), ("recall@5", -0.1, 0.1)):
        metrics |= {f"{name}_champion": 0.5, f"{name}_champion_difference": (low + high) / 2}
        metrics |= {f"{name}_champion_difference_low": low, f"{name}_champion_difference_high": high}
    champion = {"version": "3", "problem": ""}
    return report_inputs | {"predictions": rows, "metrics": metrics, "champion": champion}


def test_the_champion_stands_beside_the_model_with_the_power_of_the_test(with_champion, render, tmp_path):
    write_report(tmp_path / "report.html", **with_champion)
    shown = str(Text(render(tmp_path / "report.html")))
    assert "The champion, version 3, was asked the same questions" in shown
    assert "wins 30 questions and loses 15 against the champion: +25.0 points" in shown
    assert "exact permutation test p = 0.036" in shown and "this one passes" in shown.replace("  ", " ")
    assert f"Power: with 60 questions, of which the two answer 75.0{NBSP}% differently, a true difference of +" in shown
    assert f"points would pass with 80{NBSP}% probability" in shown


def test_questions_that_go_together_are_told_and_weigh_less(with_champion, tmp_path):
    rows = [row | {"group": number // 5} for number, row in enumerate(with_champion["predictions"])]
    write_report(tmp_path / "report.html", **with_champion | {"predictions": rows})
    html = (tmp_path / "report.html").read_text()
    assert "Power: with 60 questions in 12 groups, of which" in html
    assert "does not pass" in html and "these tell as much as 12 questions that are all apart" in html


def test_without_a_champion_the_base_is_what_the_first_has_to_beat(page):
    html = page.read_text()
    assert "There was no champion when this model was evaluated" in html
    assert "wins 40 questions and loses 5 against the model before" in html


def test_a_champion_that_could_not_be_asked_is_told_escaped(report_inputs, tmp_path):
    gone = {"version": "3", "problem": "/kb/<x>: no knowledge base there"}
    write_report(tmp_path / "report.html", **report_inputs, champion=gone)
    html = (tmp_path / "report.html").read_text()
    assert "version 3, could not be asked these questions: /kb/&lt;x&gt;: no knowledge base there" in html
    assert "promote: force" in html


def test_numbers_that_are_not_finite_do_not_stop_the_report(report_inputs, tmp_path):
    log = [{"step": 1, "loss": math.inf}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.0}]
    parameters = {"max_grad_norm": math.inf, "other": None}
    write_report(tmp_path / "report.html", **report_inputs | {"training_log": log, "parameters": parameters})
    html = (tmp_path / "report.html").read_text()
    assert "<td>inf</td>" in html and "<td>not finite</td>" in html


def test_every_chart_has_a_title_and_a_description(page):
    html = page.read_text()
    charts = re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', html, re.S)
    assert len(charts) == 3 + 6  # a scale a card, six charts
    assert all("<title>" in chart and "<desc>" in chart for chart in charts)


def test_each_row_of_figures_has_a_cell_under_every_heading(report_inputs, tmp_path):
    write_report(tmp_path / "report.html", **report_inputs)
    rows = re.findall(r"<tr><th scope=row>.*?</tr>", (tmp_path / "report.html").read_text())
    figures = [row for row in rows if "<td class=" in row]
    assert figures and {row.count("<td") for row in figures} == {4}  # before, after, change, closed book


def test_a_run_without_closed_book_or_training_log_still_has_a_report(report_inputs, tmp_path):
    metrics = {name: value for name, value in report_inputs["metrics"].items() if "closed_book" not in name}
    predictions = [row | {"prediction_closed_book": None} for row in report_inputs["predictions"]]
    write_report(tmp_path / "report.html", metrics, predictions, {})
    html = (tmp_path / "report.html").read_text()
    assert "Training loss" not in html
    assert "trained without passages" not in html and "closed book" not in html


def test_infinity_has_a_place_in_the_report(report_inputs, tmp_path):
    report_inputs["parameters"] = {"max_grad_norm": math.inf, "label_smoothing": math.nan}
    report_inputs["training_log"] += [{"step": 61, "loss": math.inf}, {"step": 62, "loss": math.nan}]
    write_report(tmp_path / "report.html", **report_inputs)
    html = (tmp_path / "report.html").read_text()
    assert "<th scope=row>max grad norm</th><td>inf</td>" in html
    assert "<th scope=row>label smoothing</th><td>nan</td>" in html


@pytest.mark.parametrize(
    ("low", "high", "beginning"),
    [(0.01, 0.2, "Fine-tuning raised"), (-0.2, -0.01, "Fine-tuning lowered"), (-0.1, 0.2, "No clear change")],
)
def test_the_verdict_follows_the_interval(low, high, beginning):
    metrics = {"em_before": 0.4, "em_after": 0.5, "em_difference_low": low, "em_difference_high": high}
    assert verdict(metrics | {"test_questions": 60})[0].startswith(beginning)
    of_recall = {name.replace("em_", "recall@1_"): value for name, value in metrics.items()} | {"test_questions": 60}
    assert verdict(of_recall, "recall@1")[0].startswith(beginning.replace("exact match", "recall@1"))


def test_a_folder_that_is_no_evaluation_is_an_error(tmp_path):
    with pytest.raises(EvaluationError, match="output folder of an evaluation"):
        report_from_folder(tmp_path, tmp_path / "report.html")
