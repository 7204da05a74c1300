"""The list of what was left out as a page for people: one file, no network, the same bytes each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut, Totals
from dentalign.files import atomic

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--soft); white-space: nowrap; }
#reasons th:nth-child(n+2):nth-child(-n+4) { text-align: right; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.file { overflow-wrap: anywhere; font-size: .85em; opacity: .8; min-width: 12rem; }
code { font-size: .95em; }
input { font: inherit; padding: .3rem .5rem; width: min(24rem, 100%); box-sizing: border-box; }
button { all: unset; cursor: pointer; text-decoration: underline dotted; }
button:focus-visible { outline: 2px solid; outline-offset: 2px; }
.wrong { color: var(--bad); font-weight: 600; }
"""

# Text is compared as it stands in the table; nothing from the data is ever run or made markup of.
_SCRIPT = """
const box = document.getElementById("filter"), shown = document.getElementById("shown");
const rows = [...document.querySelectorAll("#lines tbody tr")];
function filter() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
    count += !row.hidden;
  }
  shown.textContent = `${count} of ${rows.length} lines`;
}
box.addEventListener("input", filter);
for (const button of document.querySelectorAll("button[data-code]"))
  button.addEventListener("click", () => { box.value = button.dataset.code; filter(); box.focus(); });
filter();
"""


@dataclass(frozen=True)
class Reason:
    """A reason code with how often it came: cases excluded by it, teeth dropped by it, entries only noted."""

    code: str
    cases: int
    teeth: int
    noted: int
    mend: str


def by_reason(lines: Sequence[LeftOut]) -> list[Reason]:
    """The reasons, the most frequent first; `mend` is that of the first line, others may name other files."""
    reasons = []
    for code in {line.code for line in lines}:
        own = sorted(line for line in lines if line.code == code)
        noted = len(own) if code in NO_TEETH_OF_T1 else 0
        whole = len({line.case_id for line in own if line.whole_case})
        teeth = sum(not line.whole_case for line in own) - noted
        reasons.append(Reason(code, whole, teeth, noted, own[0].mend))
    return sorted(reasons, key=lambda reason: (-reason.cases - reason.teeth, -reason.noted, reason.code))


def write(path: str | Path, lines: Sequence[LeftOut], totals: Totals) -> None:
    """Write the page, all or nothing."""
    atomic.write_text(path, render(lines, totals))


def render(lines: Sequence[LeftOut], totals: Totals) -> str:
    """The page as HTML; everything that comes from the data is escaped."""
    body = [
        "<h1>What was left out, and why</h1>",
        _totals(totals),
        *(_summary(by_reason(lines)) + _list(sorted(lines)) if lines else ["<p>Nothing was left out.</p>"]),
    ]
    script = f"<script>{_SCRIPT}</script>\n" if lines else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>dentalign: what was left out</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n{script}</body>\n</html>\n"
    )


def _totals(totals: Totals) -> str:
    rows = [
        ("cases in the list", totals.cases_listed, totals.cases_used, "excluded", totals.cases_excluded),
        (
            "teeth at T1 of the cases used",
            totals.teeth_listed,
            totals.teeth_used,
            "dropped",
            totals.teeth_dropped,
        ),
    ]
    text = "".join(
        f"<li>{listed} {what} = {used} used + {left} {word}</li>" for what, listed, used, word, left in rows
    )
    wrong = "" if totals.add_up else '<p class="wrong">These do not add up: a fault of dentalign.</p>'
    return f'<ul id="totals">{text}</ul>{wrong}'


def _summary(reasons: Sequence[Reason]) -> list[str]:
    rows = [
        f'<tr><td><button data-code="{escape(r.code)}"><code>{escape(r.code)}</code></button></td>'
        + "".join(f'<td class="number">{count or ""}</td>' for count in (r.cases, r.teeth, r.noted))
        + f"<td>{escape(r.mend)}</td></tr>"
        for r in reasons
    ]
    return [
        "<h2>By reason</h2>",
        "<p>A case may have several reasons. Teeth are listed for excluded cases too; <i>noted</i> entries "
        "(a tooth that comes at T2 only, a key that is no tooth number) are no teeth of T1.</p>",
        _table("reasons", ("reason", "cases", "teeth", "noted", "what to do"), rows),
    ]


def _list(lines: Sequence[LeftOut]) -> list[str]:
    rows = [
        f"<tr><td>{escape(line.case_id)}</td><td>{escape(line.tooth) or 'whole case'}</td>"
        f"<td>{escape(line.stage)}</td><td><code>{escape(line.code)}</code></td>"
        f"<td>{escape(line.seen)}</td><td>{escape(line.mend)}</td>"
        f'<td class="file">{escape(line.file)}</td></tr>'
        for line in lines
    ]
    return [
        "<h2>Every line</h2>",
        '<p><label>Filter: <input id="filter" type="search" placeholder="case, tooth, reason"></label> '
        '<span id="shown" role="status"></span></p>',
        _table("lines", ("case", "tooth", "stage", "reason", "what was seen", "what to do", "where"), rows),
    ]


def _table(name: str, heading: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in heading)
    return (
        f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )
