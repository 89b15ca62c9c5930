"""A report as one self-contained HTML file: made from its Markdown, with its figures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lsc_engine.common.errors import UsageError
from lsc_engine.report.page import MARK, save

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--line:#767676;--head:#eef1f5;--link:#0b57a4}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--paper:#16181c;--line:#8a8f98;--head:#262a31;--link:#8ab8f0}}
@media print{:root{color-scheme:light;--ink:#000;--paper:#fff;--head:#eee;--link:#000}.wide{overflow:visible!important}
figure,tr,caption{break-inside:avoid}h2,h3{break-after:avoid}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:75rem;margin:auto;
padding:1rem}a{color:var(--link)}code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{border:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top;font-weight:normal}
thead th{background:var(--head);font-weight:600}
th button{all:unset;cursor:pointer}th button:focus-visible,.wide:focus-visible{outline:2px solid var(--link)}
[aria-sort=ascending] button::after{content:" \\25B2"}[aria-sort=descending] button::after{content:" \\25BC"}
img{max-width:100%;height:auto;background:#fff;padding:.5rem;box-sizing:border-box}
"""
# A column is sorted by the first number of each cell where every filled cell has one, else as text.
_SCRIPT = r"""
for (const table of document.querySelectorAll("table")) table.querySelectorAll("thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.onclick = () => {
    const up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
    const text = row => row.cells[column].textContent.trim();
    const number = row => parseFloat((text(row).replace(/(\d)[ \u00a0\u202f,](?=\d{3})/g, "$1").match(/[-+\u2212]?\d.*/)
      || [""])[0].replace("\u2212", "-"));
    const empty = row => ["", "-"].includes(text(row));
    const rows = [...body.rows], filled = rows.filter(row => !empty(row));
    const numeric = filled.every(row => /^[^\p{L}\d]*\d/u.test(text(row)));
    filled.sort((a, b) => (up ? 1 : -1) * (numeric ? number(a) - number(b) : text(a).localeCompare(text(b))));
    table.querySelectorAll("[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...filled, ...rows.filter(empty));
  };
});
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_html(page: Path, pages: Sequence[Path] = ()) -> Path:
    """`page` beside itself as .html with its figures inside. UsageError if another file has that name."""
    path = page.with_suffix(".html")
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:300]:
        raise UsageError(f"{path} is not a report of lsc-engine and is not overwritten: give another --out")
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(page.read_text(encoding="utf-8").removeprefix(MARK))
    title = _adapt(tokens, page, {one.resolve() for one in pages})
    body = reader.renderer.render(tokens, reader.options, {})
    save(
        path,
        f'<!doctype html>\n{MARK}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n",
    )
    return path


def _adapt(tokens: list[Token], page: Path, pages: set[Path]) -> str:
    """Captions and scopes for tables, figures inside, links between pages; the title of the page."""
    title, caption, first = page.stem, "", False
    tables: list[tuple[int, str]] = []
    for i, token in enumerate(tokens):
        if token.type == "inline":
            text = "".join(child.content for child in token.children or ())
            if tokens[i - 1].type == "heading_open":
                title, caption = (text, text) if tokens[i - 1].tag == "h1" else (title, text)
            elif (token.content.startswith("**") and token.content.endswith("**")) and token.level == 1:
                caption = text
            for child in token.children or ():
                if child.type == "image":
                    figure = base64.b64encode((page.parent / str(child.attrGet("src"))).read_bytes()).decode()
                    child.attrSet("src", f"data:image/svg+xml;base64,{figure}")
                target = str(child.attrGet("href"))
                if child.type == "link_open" and (page.parent / target.replace("%20", " ")).resolve() in pages:
                    child.attrSet("href", target.removesuffix(".md") + ".html")
        elif token.type == "table_open":
            tables.append((i, caption))
        elif token.type == "tr_open":
            first = True
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "td_open" and first:
            token.tag, first = "th", False
            token.attrSet("scope", "row")
            close = next(other for other in tokens[i:] if other.type == "td_close")
            close.tag = "th"
    for i, text in reversed(tables):
        # A bold line just above a table is its caption.
        above = tokens[i - 3 : i]
        own = len(above) == 3 and above[0].type == "paragraph_open" and above[1].content == f"**{text}**"
        end = next(k for k in range(i, len(tokens)) if tokens[k].type == "table_close")
        tokens.insert(end + 1, Token("html_block", "", 0, content="</div>\n"))
        tokens.insert(i + 1, Token("html_block", "", 0, content=f"<caption>{escape(text)}</caption>\n"))
        region = f'<div class="wide" role="region" aria-label="{escape(text)}" tabindex="0">\n'
        tokens[i - 3 if own else i : i] = [Token("html_block", "", 0, content=region)]
    return title
