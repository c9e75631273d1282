"""The page's tables and cards as HTML; every name from the data is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.app.text import plain
from pipeline.report.page import environment

STYLE = """\
<style>
[data-testid="stMainBlockContainer"] { padding: 2.5rem 2.5rem 3rem; }
[data-testid="stMainBlockContainer"] h1 { font-size: 1.6rem; padding: 0; }
.ls-scroll { overflow-x: auto; max-width: 100%; }
[data-testid="stImageCaption"], [data-testid="stImageCaption"] * { color: inherit; }
table.ls { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
table.ls caption { text-align: left; padding: 0.3rem 0; caption-side: top; }
table.ls th, table.ls td {
  padding: 0.3rem 0.7rem; text-align: left; border-bottom: 1px solid rgba(128, 128, 128, 0.5);
  vertical-align: top;
}
table.ls td.n { text-align: right; white-space: nowrap; }
table.ls td.w { white-space: nowrap; }
table.ls tr.now th, table.ls tr.now td { border-left: 0; font-weight: 700; }
figure.ls { margin: 0; }
figure.ls img {
  width: 100%; max-height: 15rem; object-fit: contain; background: rgba(128, 128, 128, 0.15);
}
figure.ls figcaption { font-size: 0.85rem; overflow-wrap: anywhere; line-height: 1.35; }
.ls-none {
  border: 1px dashed rgba(128, 128, 128, 0.9); padding: 0.5rem; font-size: 0.8rem;
  min-height: 6rem; overflow-wrap: anywhere;
}
dl.ls { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 0.8rem; }
dl.ls, dl.ls dt, dl.ls dd { margin: 0; padding: 0; font-size: 0.9rem; overflow-wrap: anywhere; }
dl.ls dt { opacity: 0.85; }
.ls-tag { border: 1px solid currentColor; border-radius: 4px; padding: 0 0.35rem; }
@media (max-width: 40rem) {
  dl.ls { grid-template-columns: 1fr; }
  [data-testid="stMainBlockContainer"] { padding: 4rem 1rem 2rem; }
}
</style>
"""
_TEMPLATES = {
    "rate": """\
{% macro rate(hits, of, value, low, high) -%}
{% if of %}{{ words.count(hits) }} of {{ words.count(of) }}{% if words.exists(value) %}:
{{ words.percent(value) }} [{{ words.interval(low, high) }}]{% endif %}
{% else %}{{ words.count(None) }}{% endif %}
{%- endmacro %}
""",
    "figures": """\
{% from "rate" import rate %}
<div class="ls-scroll" tabindex="0" role="region" aria-label="{{ caption }}">
<table class="ls"><caption>{{ caption }}</caption>
<thead><tr>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}
<th scope="col">good</th><th scope="col">defects</th><th scope="col">no label</th>
<th scope="col">missed (FN)</th><th scope="col">false alarms (FP)</th>
<th scope="col">to review</th></tr></thead>
<tbody>{% for row in rows %}
<tr data-row="{{ row.names | join(' / ') }}">{% for name in row.names %}
{% if loop.first %}<th scope="row"><bdi>{{ name }}</bdi></th>
{% else %}<td><bdi>{{ name }}</bdi></td>{% endif %}{% endfor %}
{% set it = row.it %}
<td class="n">{{ words.count(it.good) }}</td><td class="n">{{ words.count(it.defects) }}</td>
<td class="n">{{ words.count(it.unlabelled) }}</td>
<td class="w" data-fn="{{ it.fn }}">\
{{ rate(it.fn, it.defects, it.fnr, it.fnr_low, it.fnr_high) }}</td>
<td class="w" data-fp="{{ it.fp }}">{{ rate(it.fp, it.good, it.fpr, it.fpr_low, it.fpr_high) }}</td>
<td class="n">{{ words.review(it) }}</td></tr>
{% endfor %}</tbody></table></div>
""",
    "table": """\
<div class="ls-scroll" tabindex="0" role="region" aria-label="{{ caption }}">
<table class="ls"><caption>{{ caption }}</caption>
<thead><tr>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}
{% if loop.first %}<th scope="row"><bdi>{{ cell }}</bdi></th>
{% else %}<td><bdi>{{ cell }}</bdi></td>{% endif %}
{% endfor %}</tr>{% endfor %}</tbody></table></div>
""",
    "facts": """\
<dl class="ls">{% for name, value in facts %}
<dt>{{ name }}</dt><dd><bdi>{{ value }}</bdi></dd>{% endfor %}</dl>
""",
    "picture": """\
<figure class="ls" data-image="{{ image_id }}">
{% if picture %}<img alt="{{ alt }}" src="data:image/jpeg;base64,{{ picture }}">
{% else %}<div class="ls-none">no picture: {{ reason }}</div>{% endif %}
<figcaption>{% if tag %}<span class="ls-tag">{{ tag }}</span> {% endif %}\
{% for line in lines %}<bdi>{{ line }}</bdi>{% if not loop.last %}<br>{% endif %}{% endfor %}
</figcaption></figure>
""",
}
_PAGE = environment(_TEMPLATES)


def figures_table(
    caption: str, names: Sequence[str], rows: Sequence[tuple[Sequence[str], Mapping[str, Any]]]
) -> str:
    """Rows of `figures`, each with its names: counts, n, rates and Wilson intervals."""
    told = [{"names": [plain(name) for name in own], "it": it} for own, it in rows]
    return _PAGE.get_template("figures").render(caption=caption, names=names, rows=told)


def table(caption: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Any table; the first cell of a row names it."""
    told = [[plain(cell) for cell in row] for row in rows]
    return _PAGE.get_template("table").render(caption=caption, names=names, rows=told)


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Names and values."""
    told = [(name, plain(value)) for name, value in pairs]
    return _PAGE.get_template("facts").render(facts=told)


def picture(
    image_id: int, found: bytes | str, alt: str, lines: Sequence[str], tag: str = ""
) -> str:
    """A thumbnail, or why there is none, with its caption."""
    made = isinstance(found, bytes)
    return _PAGE.get_template("picture").render(
        image_id=image_id,
        picture=base64.b64encode(found).decode() if isinstance(found, bytes) else "",
        reason="" if made else plain(found),
        alt=plain(alt),
        lines=[plain(line) for line in lines],
        tag=plain(tag),
    )
