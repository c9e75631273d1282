"""Sections with drawings, and the quality of scores."""

CHARTS = """\
{% macro quality(page) %}
<section id="quality">
<h2>How well scores rank</h2>
{% if page.quality %}
{% for says in page.intervals %}<p class="soft">Intervals: {{ says }}.</p>{% endfor %}
{% call parts.scroll("Quality of scores") %}
<table>
<thead><tr><th scope="col">score</th><th scope="col">category</th><th scope="col">good</th>
<th scope="col">defects</th><th scope="col">without the score</th><th scope="col">AUROC</th>
<th scope="col">average precision</th></tr></thead>
<tbody>
{% for it in page.quality %}
<tr><th scope="row"><bdi>{{ it.score }}</bdi></th>
<td>{{ parts.named(it.category, "all") }}</td>
<td class="number">{{ words.count(it.good) }}</td>
<td class="number">{{ words.count(it.defects) }}</td>
<td class="number">{{ words.count(it.missing) }}</td>
{% for area in ("auroc", "average_precision") %}
<td class="whole">{{ words.share(it[area]) }}
{%- if words.exists(it[area ~ "_low"]) and words.exists(it[area ~ "_high"]) %}
 [{{ words.share(it[area ~ "_low"]) }}, {{ words.share(it[area ~ "_high"]) }}]{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
{% else %}<p>No score was rated.</p>{% endif %}
</section>
{% endmacro %}

{% macro histogram(it) %}
<figure>
<figcaption><strong><bdi>{{ it.about.score }}</bdi></strong>,
{{ parts.named(it.about.category, "all categories") }}: {{ words.count(it.counts[0]) }} good,
{{ words.count(it.counts[1]) }} defects
{%- if it.counts[2] %}, {{ words.count(it.counts[2]) }} without a label (dashed){% endif %}
</figcaption>
<svg viewBox="0 0 340 200" role="img" aria-label="{{ it.says }}">
<title>{{ it.says }}</title>
{% if it.good %}<path class="good" d="{{ it.good }}"/>{% endif %}
{% if it.defects %}<path class="bad" d="{{ it.defects }}"/>{% endif %}
{% if it.unlabelled %}<path class="other" d="{{ it.unlabelled }}"/>{% endif %}
<path class="axis" d="M8 102H332M8 178H332"/>
{% for line in it.lines if line.x is not none %}
<line class="cut" x1="{{ line.x }}" x2="{{ line.x }}" y1="26" y2="178"/>
<text x="{{ line.x }}" y="{{ line.y }}" text-anchor="middle">{{ line.number }}</text>
{% endfor %}
<text class="side" x="8" y="38">good ↑</text>
<text class="side" x="8" y="172">defects ↓</text>
{% for x, text in it.ticks %}
<path class="axis" d="M{{ x }} 178V182"/>
<text class="quiet" x="{{ x }}" y="195" text-anchor="middle">{{ text }}</text>
{% endfor %}
</svg>
{% if it.lines %}
<ul>
{% for line in it.lines %}
<li>{{ line.number }}: {{ line.value }}{% if line.x is none %} (outside the drawing){% endif %},
{% for name in line.names %}<bdi>{{ name }}</bdi>{% if not loop.last %}, {% endif %}{% endfor %}
{%- if line.more %} and {{ line.more }} more{% endif %}</li>
{% endfor %}
{% if it.left_out %}<li>… {{ it.left_out }} more thresholds</li>{% endif %}
</ul>
{% endif %}
</figure>
{% endmacro %}

{% macro distributions(page) %}
<section id="distributions">
<h2>Distributions of scores</h2>
<p>Good images upwards, defects downwards, each filling the same area whatever their number; dashed
upright lines are thresholds. A threshold is good where it parts the two.</p>
{% for title, found in (("All categories", page.overall), ("By category", page.by_category)) %}
{% if found %}
<details{% if loop.first or not page.overall %} open{% endif %}>
<summary>{{ title }}</summary>
<div class="charts">{% for it in found %}{{ histogram(it) }}{% endfor %}</div>
</details>
{% endif %}
{% endfor %}
</section>
{% endmacro %}

{% macro front_drawing(it) %}
<figure class="front">
<figcaption>● on <bdi>{{ it.about.tuning.measured_on }}</bdi>
{%- if it.about.held_out %}; ◇ the same policies on <bdi>{{ it.about.held_out.measured_on }}</bdi>
{%- endif %}{% if it.about.chosen is not none %}; ring: chosen{% endif %}</figcaption>
<svg viewBox="0 0 440 330" role="img" aria-label="{{ it.says }}">
<title>{{ it.says }}</title>
<path class="axis" d="M52 30V286H412"/>
{% for x, text in it.x %}
<path class="axis" d="M{{ x }} 286V290"/>
<text class="quiet" x="{{ x }}" y="303" text-anchor="middle">{{ text }}</text>
{% endfor %}
{% for y, text in it.y %}
<path class="axis" d="M48 {{ y }}H52"/>
<text class="quiet" x="45" y="{{ y + 4 }}" text-anchor="end">{{ text }}</text>
{% endfor %}
<text x="232" y="322" text-anchor="middle">false alarms, of good images</text>
<text x="8" y="14">missed, of defects</text>
<path class="stairs" d="{{ it.stairs }}"/>
{% for mark in it.marks if mark.held_out %}
<path class="away" d="M{{ mark.x }} {{ mark.y }}L{{ mark.held_out[0] }} {{ mark.held_out[1] }}"/>
{% endfor %}
{% for mark in it.marks %}
<g><title>{{ mark.says }}</title>
{% if mark.held_out %}
<path class="held" transform="translate({{ mark.held_out[0] }} {{ mark.held_out[1] }})"
 d="M0-5L5 0L0 5L-5 0Z"/>
{% if mark.chosen %}
<circle class="ring" cx="{{ mark.held_out[0] }}" cy="{{ mark.held_out[1] }}" r="9"/>
{% endif %}
{% endif %}
<circle class="good" cx="{{ mark.x }}" cy="{{ mark.y }}" r="4"/>
{% if mark.chosen %}<circle class="ring" cx="{{ mark.x }}" cy="{{ mark.y }}" r="9"/>{% endif %}
</g>
{% endfor %}
</svg>
</figure>
{% endmacro %}

{% macro cells(numbers) %}
{% for text in numbers or ("–", "–", "–") %}<td>{{ text }}</td>{% endfor %}
{% endmacro %}

{% macro front(page) %}
{% set it = page.front %}
<section id="front">
<h2>The front of the sweep</h2>
<p>{{ words.count(it.about.labels | length) }} policies that none beats in both kinds of mistakes.
{% if not it.about.held_out %}There is no hold-out: these figures are of the images that chose, and
no estimate.{% endif %}</p>
{% if it.marks %}{{ front_drawing(it) }}
{% elif it.about.labels %}<p>There is no drawing: without good images and defects on these rows the
rates don't exist.</p>{% endif %}
{% if it.about.labels | length > it.marks | length and it.marks %}
<p class="soft">{{ it.marks | length }} of them are drawn, evenly spaced.</p>{% endif %}
{% if it.listed %}
{% call parts.scroll("The front of the sweep") %}
<table>
<caption>{{ it.listed | length }} of {{ words.count(it.about.labels | length) }}</caption>
<thead>
<tr><th scope="col" rowspan="2">policy</th>
<th scope="colgroup" colspan="3"><bdi>{{ it.about.tuning.measured_on }}</bdi></th>
{% if it.about.held_out %}
<th scope="colgroup" colspan="3"><bdi>{{ it.about.held_out.measured_on }}</bdi></th>{% endif %}</tr>
<tr>{% for _ in range(2 if it.about.held_out else 1) %}
<th scope="col">missed</th><th scope="col">false alarms</th><th scope="col">review</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in it.listed %}
<tr><th scope="row"><bdi>{{ row.label }}</bdi>
{% if row.chosen %}<span class="tag">chosen</span>{% endif %}</th>
{{ cells(row.tuning) }}{% if it.about.held_out %}{{ cells(row.held_out) }}{% endif %}</tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
{% endif %}
</section>
{% endmacro %}
"""
