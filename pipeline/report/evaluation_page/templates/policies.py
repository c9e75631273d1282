"""Sections about policies: side by side, by category, heat maps, flips, gallery."""

POLICIES = """\
{% macro row(entry, missed, alarms, flagged) %}
<tr>
<th scope="row">{{ entry.number }}. {{ parts.whose(entry) }}</th>
<td>{{ words.missed(entry.row) }}{{ parts.bar(missed.bars.get(entry.number), "miss") }}</td>
<td>{{ words.false_alarms(entry.row) }}
{{ parts.bar(alarms.bars.get(entry.number), "alarm") }}</td>
<td>{{ words.review(entry.row) }}</td>
<td class="number">{{ words.share(entry.row.precision) }}</td>
<td class="number">{{ words.share(entry.row.f2) }}</td>
{% if flagged %}<td>{{ words.flagged(entry.row) }}</td>{% endif %}
</tr>
{% endmacro %}

{% macro summary(page) %}
<section id="policies">
<h2>Policies side by side</h2>
{% if not page.shown.entries %}
<p>No policy was evaluated.</p>
{% else %}
<p>Fewest missed defects first, then fewest false alarms; oracles last. That is an order, not a
choice. “At most” is the upper end of Clopper and Pearson's {{ page.confidence }} interval, rounded
up; […] is Wilson's. Both take images to be independent and the next ones to be like these. An
image that goes to a person is neither missed nor a false alarm.</p>
{% if page.shown.left_out %}
<p class="note">{{ words.count(page.shown.left_out) }} more policies are left out here
{%- if page.shown.oracles_left_out %} ({{ page.shown.oracles_left_out }} of them oracles)
{%- endif %}; their figures are in figures.parquet.</p>
{% endif %}
<p class="soft">Bars of missed defects run from 0 to {{ page.missed.end }}, of false alarms from
0 to {{ page.alarms.end }}; the line is the interval in the text, the dot the rate.</p>
{% call parts.scroll("Policies side by side") %}
<table>
<thead><tr>
<th scope="col">policy</th><th scope="col">missed defects (FN)</th>
<th scope="col">false alarms (FP)</th><th scope="col">review load</th>
<th scope="col">precision</th><th scope="col">F2</th>
{% if page.unlabelled %}<th scope="col">flagged, of all rows</th>{% endif %}
</tr></thead>
{% for rows, entries in page.shown.by_rows.items() %}
<tbody>
{% if page.shown.by_rows | length > 1 %}
<tr><th scope="rowgroup" colspan="{{ 7 if page.unlabelled else 6 }}">measured on
<bdi>{{ rows or "unknown rows" }}</bdi></th></tr>
{% endif %}
{% for entry in entries %}{{ row(entry, page.missed, page.alarms, page.unlabelled) }}{% endfor %}
</tbody>
{% endfor %}
</table>
{% endcall %}
{% endif %}
</section>
{% endmacro %}

{% macro figures_row(head, it) %}
<th scope="row">{{ head }}</th>
<td>{{ words.missed(it) }}</td><td>{{ words.false_alarms(it) }}</td><td>{{ words.review(it) }}</td>
<td class="number">{{ words.share(it.precision) }}</td>
<td class="number">{{ words.share(it.f2) }}</td>
{% endmacro %}

{% macro macro_row(it) %}
<th scope="row">mean over categories</th>
<td>{{ words.percent(it.fnr) }}{% if it.categories %} in {{ it.categories }} categories{% endif %}
</td>
<td>{{ words.percent(it.fpr) }}</td><td>–</td>
<td class="number">{{ words.share(it.precision) }}</td>
<td class="number">{{ words.share(it.f2) }}</td>
{% endmacro %}

{% macro by_category(page) %}
<section id="categories">
<h2>By category</h2>
{% for entry in page.shown.entries if entry.categories %}
<details{% if loop.first %} open{% endif %}>
<summary>{{ entry.number }}. <bdi>{{ entry.name }}</bdi>
{%- if entry.oracle %} (oracle: reads the true defect type, can't be used on a line){% endif %}
{%- if page.shown.by_rows | length > 1 %}, on <bdi>{{ entry.measured_on }}</bdi>{% endif %}
</summary>
{% call parts.scroll(entry.name ~ " by category") %}
<table>
<thead><tr><th scope="col">category</th><th scope="col">missed defects (FN)</th>
<th scope="col">false alarms (FP)</th><th scope="col">review load</th>
<th scope="col">precision</th><th scope="col">F2</th></tr></thead>
<tbody>
{% for it in entry.categories %}
<tr>{{ figures_row(parts.category(it.category), it) }}</tr>
{% endfor %}
<tr class="total">{{ figures_row("all", entry.row) }}</tr>
{% if entry.macro %}<tr>{{ macro_row(entry.macro) }}</tr>{% endif %}
</tbody>
</table>
{% endcall %}
</details>
{% else %}
<p>There are no figures by category.</p>
{% endfor %}
</section>
{% endmacro %}

{% macro heat(map, by_type, says) %}
{% call parts.scroll(says) %}
<table class="heat">
<thead><tr><th scope="col">category</th>{% if by_type %}<th scope="col">defect type</th>{% endif %}
{% for entry in map.entries %}
<th scope="col" class="policy"><span title="{{ entry.name }}"><bdi>{{ entry.name }}</bdi></span>
<br>{{ entry.number }}{% if entry.oracle %}<small class="tag oracle">oracle</small>{% endif %}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for category, defect_type, cells in map.rows %}
<tr><th scope="row">{{ parts.category(category) }}</th>
{% if by_type %}<th scope="row">{{ parts.named(defect_type, "no type") }}</th>{% endif %}
{% for cell in cells %}
<td title="{{ cell.says }}"{% if cell.step is not none %} class="h{{ cell.step }}"{% endif %}>
{{- cell.hits }}{% if cell.of %}<small>/{{ cell.of }}</small>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
{% endmacro %}

{% macro heat_section(page, id, title, groups, absent) %}
<section id="{{ id }}">
<h2>{{ title }}</h2>
{% if groups %}
<ul class="legend" aria-label="colours">
{% for step, says in page.legend %}<li class="step h{{ step }}">{{ says }}</li>{% endfor %}
</ul>
{% for rows, maps in groups %}
{% if groups | length > 1 %}<h3>On <bdi>{{ rows }}</bdi></h3>{% endif %}
{% for map in maps %}
{% set first = map.entries[0].number %}{% set last = map.entries[-1].number %}
<details{% if loop.first %} open{% endif %}><summary>Policies {{ first }} to {{ last }}</summary>
{{ heat(map, id == "misses", title ~ ", policies " ~ first ~ " to " ~ last) }}
</details>
{% endfor %}
{% endfor %}
{% else %}<p>{{ absent }}</p>{% endif %}
</section>
{% endmacro %}

{% macro flip_row(kind, it) %}
<td>{{ kind }}</td>
<td class="number">{{ words.count(it.images) }}</td>
<td class="number">{{ words.count(it.fixed) }}</td>
<td class="number">{{ words.count(it.broken) }}</td>
<td class="number">{{ words.count(it.both) }}</td>
<td class="number">{{ words.count(it.to_review) }}</td>
<td class="number">{{ words.count(it.from_review) }}</td>
<td class="number">{{ words.p_value(it.p_value) }}</td>
{% endmacro %}

{% macro flips(page) %}
<section id="flips">
<h2>Challengers against the champion</h2>
<p>“Only the champion errs” is what the challenger mends; “only the challenger errs” is what it
breaks. An error is a missed defect or a false alarm. p is of McNemar's exact test that both are
equally likely; it means something only on images that did not choose the challenger.</p>
{% call parts.scroll("Challengers against the champion") %}
<table>
<thead><tr><th scope="col">challenger, champion</th><th scope="col">truth</th>
<th scope="col">images</th><th scope="col">only the champion errs</th>
<th scope="col">only the challenger errs</th><th scope="col">both err</th>
<th scope="col">to review</th><th scope="col">from review</th><th scope="col">p</th></tr></thead>
{% for flip in page.report.flips %}
<tbody>
<tr><th scope="row" rowspan="2"><bdi>{{ flip.challenger }}</bdi>
<span class="tag">against <bdi>{{ flip.champion }}</bdi></span></th>
{{ flip_row("defects", flip.defects) }}</tr>
<tr>{{ flip_row("good images", flip.good) }}</tr>
</tbody>
{% endfor %}
</table>
{% endcall %}
</section>
{% endmacro %}

{% macro card(it) %}
<li class="card">
{% if it.picture is not none %}
<svg viewBox="0 0 96 96" role="img" aria-label="image {{ it.row.uri }}">
<title>{{ it.row.uri }}</title><use href="#picture-{{ it.picture }}"/></svg>
{% elif it.lacking %}<div class="none">{{ it.lacking }}</div>{% endif %}
<div>
<p><strong>{{ parts.category(it.row.category) }}</strong>,
{{ parts.named(it.row.defect_type, "no type") }}</p>
{% if it.row.score is not none %}
<p><bdi>{{ it.row.score }}</bdi> {{ words.plain(it.row.value) }}, threshold
{{ words.plain(it.row.threshold) }}</p>
{% endif %}
{% if it.row.reason is not none %}<p>{{ parts.named(it.row.reason) }}</p>{% endif %}
{% if it.row.uri is not none %}<p class="soft">{{ parts.named(it.row.uri) }}</p>{% endif %}
{% if it.row.image_id is not none %}<p class="soft">image {{ it.row.image_id }}</p>{% endif %}
</div>
</li>
{% endmacro %}

{% macro gallery(page) %}
<section id="mistakes">
<h2>Mistakes</h2>
{% if not page.gallery.walls %}
<p>No policy's mistakes are listed.</p>
{% else %}
<p>Of each policy the missed defects, then the false alarms, those nearest to a threshold first.
{%- if page.report.thumbnails is none %} Pictures were not asked for.{% endif %}</p>
{% for entry in page.shown.entries if entry.number in page.gallery.walls %}
<details{% if loop.first %} open{% endif %}>
<summary>{{ entry.number }}. <bdi>{{ entry.name }}</bdi>:
{{ words.missed(entry.row) }}; false alarms {{ words.false_alarms(entry.row) }}
{%- if entry.oracle %} (oracle){% endif %}</summary>
{% for wall in page.gallery.walls[entry.number] %}
<h3>{{ wall.title | capitalize }}: {{ words.count(wall.made) }}</h3>
{% if wall.cards %}
{% if wall.made > wall.cards | length %}
<p class="soft">{{ wall.cards | length }} are shown; mistakes.parquet has
{{ words.count(wall.listed) }}.</p>
{% endif %}
<ul class="cards">
{% for it in wall.cards %}{{ card(it) }}{% endfor %}
</ul>
{% elif wall.made %}
<p class="soft">None is listed in mistakes.parquet.</p>
{% endif %}
{% endfor %}
</details>
{% endfor %}
{% endif %}
</section>
{% endmacro %}
"""
