"""The report as one HTML file: its structure, and what real Chromium makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_studies import call, make_study

from lsc_engine.common.errors import UsageError
from lsc_engine.report.html import write_html
from lsc_engine.report.page import MARK

pytestmark = pytest.mark.usefixtures("svg_only")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Clicks on each heading of the first table with figures, and lists what was loaded.
DRIVER = """<script>addEventListener("load", () => {
  const table = [...document.querySelectorAll("table")].at(-1), out = document.createElement("pre"), seen = [];
  const column = () => [...table.tBodies[0].rows].map(row => row.cells[1].textContent).join(" ");
  const button = table.querySelectorAll("thead th button")[1];
  for (let i = 0; i < 2; i++) { button.click(); seen.push(button.parentNode.ariaSort + ": " + column()); }
  const loaded = performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:")).length;
  const drawn = [...document.images].filter(one => one.naturalWidth > 0).length;
  out.id = "seen";
  out.textContent = [...seen, "loaded " + loaded, "drawn " + drawn].join("\\n");
  document.body.append(out);
})</script>"""


class Tags(HTMLParser):
    """All opening tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_one_file_holds_figures_and_named_tables(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    page = Path(call("report", "fig9", "--html", "--runs-dir", tmp_path / "runs", "--out", tmp_path / "out").strip())
    assert page == tmp_path / "out/report.html"
    tags = Tags(page.read_text())
    markdown = (tmp_path / "out/report.md").read_text()
    assert len(tags.of("img")) == markdown.count("![") > 0
    assert all(str(one["src"]).startswith("data:image/svg+xml;base64,") and one["alt"] for one in tags.of("img"))
    assert len(tags.of("table")) == len(tags.of("caption")) == len(re.findall(r"^\| -", markdown, re.MULTILINE))
    assert {one.get("scope") for one in tags.of("th")} == {"col", "row"}
    addresses = [value for _, attributes in tags.found for key, value in attributes.items() if key in ("src", "href")]
    assert all(str(address).startswith("data:") for address in addresses)


def test_index_leads_to_pages_and_foreign_files_stay(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    index = Path(call("report", "--all", "--html", "--runs-dir", tmp_path / "runs", "--out", tmp_path / "out").strip())
    (link,) = [str(one["href"]) for one in Tags(index.read_text()).of("a")]
    assert (tmp_path / "out" / link).is_file()
    assert link.endswith("fig9/report.html")
    (tmp_path / "own.md").write_text(f"{MARK}\n\n# Own\n")
    (tmp_path / "own.html").write_text("mine")
    with pytest.raises(UsageError, match="not overwritten"):
        write_html(tmp_path / "own.md")
    assert (tmp_path / "own.html").read_text() == "mine"


def test_text_of_a_report_is_no_markup(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text(f"{MARK}\n\n# a <script>alert(1)</script>\n\n| a |\n| --- |\n| <b onclick=x> |\n")
    tags = Tags(write_html(tmp_path / "x.md").read_text())
    assert len(tags.of("script")) == 1
    assert not tags.of("b")


@pytest.mark.slow
def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_texts_and_lines_have_the_contrast_of_wcag(tmp_path: Path) -> None:
    """1.4.3 and 1.4.11: 4.5 for text and 3 for lines, on every background, in light, in dark and on paper."""
    assert contrast("#fff", "#000000") == 21
    assert round(contrast("#767676", "#fff"), 2) == 4.54
    (tmp_path / "x.md").write_text("# A\n")
    style = write_html(tmp_path / "x.md").read_text().split("<style>")[1].split("</style>")[0]
    palettes = [dict(re.findall(r"--(\w+):(#\w+)", root)) for root in re.findall(r":root\{([^}]*)\}", style)]
    rules = re.sub(r":root\{[^}]*\}", "", style)
    inks = set(re.findall(r"[{;]color:var\(--(\w+)\)", rules))
    papers = set(re.findall(r"background:var\(--(\w+)\)", rules))
    lines = set(re.findall(r"solid var\(--(\w+)\)", rules))
    assert (inks, papers, lines) == ({"ink", "link"}, {"paper", "head"}, {"line", "link"})
    # The only other colour is what figures stand on.
    assert re.findall(r"#[0-9a-f]{3,6}\b", rules) == ["#fff"]
    assert len(palettes) == 3
    for palette in palettes:
        colours = palettes[0] | palette
        for paper in papers:
            for ink in inks:
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
            for line in lines:
                assert contrast(colours[line], colours[paper]) >= 3, (line, paper)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_sorts_tables_and_loads_nothing(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    call("report", "fig9", "--runs-dir", tmp_path / "runs", "--out", tmp_path / "out")
    with (tmp_path / "out/report.md").open("a") as file:
        file.write("\n## Sorted\n\n| a | b |\n| --- | --- |\n| x | 1 806 |\n| y | - |\n| z | ×0.5 |\n| u | −3 |\n")
    page = write_html(tmp_path / "out/report.md")
    drawn = page.read_text().count("<img")
    page.write_text(page.read_text().replace("</body>", f"{DRIVER}</body>"))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *words, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    assert found[1].split("\n") == [
        "ascending: −3 ×0.5 1 806 -", "descending: 1 806 ×0.5 −3 -", "loaded 0", f"drawn {drawn}",
    ]  # fmt: skip
    assert "CONSOLE" not in done.stderr
