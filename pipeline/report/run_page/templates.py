"""The templates of a run's page; style, parts and drawings are those of the evaluation's."""

from pipeline.report.evaluation_page.templates import TEMPLATES as _SHARED

_STYLE = """\
.work { display: block; width: 130px; height: 12px; margin-top: 0.2rem; }
.work rect { fill: var(--good); } .work .track { stroke: var(--line); }
.uri, .said { overflow-wrap: anywhere; min-width: 14rem; }
.scroll + .charts { margin-top: 1rem; }
.facts { display: flex; flex-wrap: wrap; gap: 0.6rem; padding: 0; list-style: none; }
.facts { max-width: none; }
.facts li { border: 1px solid var(--line); border-radius: 6px; padding: 0.4rem 0.8rem; }
.facts strong { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
@media (min-width: 40rem) {
  .scores tbody th[scope="row"]:first-child { min-width: 14rem; }
}
.facts .wrong strong { color: var(--bad); }
"""

_SECTIONS = """\
{% macro categories(page) %}
<section id="categories">
<h2>Images by category</h2>
{% call parts.scroll("Images by category") %}
<table>
<thead><tr><th scope="col">category</th><th scope="col" class="number">images</th>
<th scope="col" class="number">scored</th>
<th scope="col" class="number">errors</th>
{% if page.skipped %}<th scope="col" class="number">skipped</th>{% endif %}
{% for kind in page.kinds %}<th scope="col" class="number"><bdi>{{ kind }}</bdi></th>
{% endfor %}</tr></thead>
<tbody>
{% for row in page.categories %}
<tr><th scope="row">{{ parts.category(row.category) }}</th>
<td class="number">{{ words.count(row.images) }}</td>
<td class="number">{{ words.count(row.scored) }}</td>
<td class="number">{{ words.count(row.errors.values() | sum) }}</td>
{% if page.skipped %}
<td class="number">{{ words.count(row.get("skipped", 0)) }}</td>{% endif %}
{% for kind in page.kinds %}
<td class="number">{{ words.count(row.errors.get(kind, 0)) }}</td>{% endfor %}</tr>
{% endfor %}
{% if page.categories_left_out %}
<tr><th scope="row">{{ page.categories_left_out }} smaller categories</th>
<td colspan="{{ 3 + page.skipped + page.kinds | length }}">in report.json</td></tr>
{% endif %}
<tr class="total"><th scope="row">all</th>
<td class="number">{{ words.count(page.report.images.manifest) }}</td>
<td class="number">{{ words.count(page.report.images.scored) }}</td>
<td class="number">{{ words.count(page.report.images.errors) }}</td>
{% if page.skipped %}
<td class="number">{{ words.count(page.report.images.skipped) }}</td>{% endif %}
{% for kind in page.kinds %}
<td class="number">{{ words.count(page.report.errors_by_type[kind]) }}</td>{% endfor %}</tr>
</tbody>
</table>
{% endcall %}
{% if page.ways %}
<p>{% for way, images in page.ways %}{{ words.count(images) }} {{ way }}
{%- if not loop.last %}, {% endif %}{% endfor %}.</p>
{% endif %}
</section>
{% endmacro %}

{% macro work(page) %}
{% set scoring = page.report.scoring %}
<section id="work">
<h2>What it took</h2>
{% if page.stages %}
<p>Seconds of the stages' workers, added up over all attempts. They work side by side, so that the
sum is more than the time on the clock; waiting for files and for a busy processor is in them.</p>
{% call parts.scroll("Work by stage") %}
<table>
<thead><tr><th scope="col">stage</th><th scope="col" class="number">seconds</th>
<th scope="col">share</th>
<th scope="col" class="number">images</th>
<th scope="col" class="number">ms per image</th></tr></thead>
<tbody>
{% for stage in page.stages %}
<tr><th scope="row">{{ stage.row.stage }}</th>
<td class="number">{{ "%.1f" | format(stage.row.seconds) }}</td>
<td>{{ words.percent(stage.share) }}
<svg class="work" viewBox="0 0 130 12" role="img"
 aria-label="{{ stage.row.stage }}: {{ words.percent(stage.share) }}">
<line class="track" x1="4" x2="126" y1="6" y2="6"/>
<rect x="4" y="2" width="{{ stage.width }}" height="8"/></svg></td>
<td class="number">{{ words.count(stage.row.images) }}</td>
<td class="number">{{ "%.2f" | format(1000 * stage.row.seconds_per_image) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
{% else %}<p>This run did not note what its stages took.</p>{% endif %}
<p class="soft">On the clock: {{ "%.1f" | format(scoring.seconds) }} s of scoring in the last
attempt{% if scoring.first_commit_s is not none %}, {{ "%.1f" | format(scoring.first_commit_s) }} s
of them until the first images were committed{% endif %};
{{ "%.1f" | format(page.report.publishing.seconds) }} s of publishing.</p>
</section>
{% endmacro %}

{% macro numbers(rows, each) %}
<table class="scores">
<thead><tr><th scope="col">score</th>{% if each %}<th scope="col">category</th>{% endif %}
<th scope="col" class="number">images</th>
<th scope="col" class="number">without</th><th scope="col" class="number">least</th>
{% for share in ("1 %", "5 %", "25 %", "median", "75 %", "95 %", "99 %") %}
<th scope="col" class="number">{{ share }}</th>
{% endfor %}<th scope="col" class="number">largest</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row"><bdi>{{ row.score }}</bdi></th>
{% if each %}<td>{{ parts.category(row.category) }}</td>{% endif %}
<td class="number">{{ words.count(row.n) }}</td>
<td class="number">{{ words.count(row.missing) }}</td>
<td class="number">{{ words.plain(row.min) }}</td>
{% for value in row.quantiles.values() %}<td class="number">{{ words.quantile(value) }}</td>
{% endfor %}
<td class="number">{{ words.plain(row.max) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}

{% macro distributions(page) %}
<section id="distributions">
<h2>Distributions of scores</h2>
<p>Least and largest are exact, quantiles to one part in 2,048. Good images upwards, defects
downwards, those without a label dashed; each fills the same area whatever its number.</p>
{% set all = page.distributions | selectattr("level", "equalto", "all") | list %}
{% call parts.scroll("Scores of all categories") %}{{ numbers(all, false) }}{% endcall %}
<div class="charts">{% for it in page.overall %}{{ charts.histogram(it) }}{% endfor %}</div>
{% set each = page.distributions | rejectattr("level", "equalto", "all") | list %}
{% if each %}
<details><summary>By category</summary>
{% if page.by_category %}
<div class="charts">{% for it in page.by_category %}{{ charts.histogram(it) }}{% endfor %}</div>
{% endif %}
{% call parts.scroll("Scores by category") %}{{ numbers(each, true) }}{% endcall %}
</details>
{% endif %}
</section>
{% endmacro %}

{% macro errors(page) %}
<section id="errors">
<h2>Errors</h2>
<p>The most frequent kind first, with a few images of each; all of them are in the table
<code>errors</code>.</p>
{% for kind in page.errors %}
<details{% if loop.index <= 3 %} open{% endif %}>
<summary><bdi>{{ kind.name }}</bdi>: {{ words.count(kind.images) }} images</summary>
{% call parts.scroll("Examples of " ~ kind.name) %}
<table>
<thead><tr><th scope="col">image</th><th scope="col">category</th><th scope="col">reason</th></tr>
</thead>
<tbody>
{% for row in kind.examples %}
<tr><td class="uri"><bdi>{{ row.uri }}</bdi></td><td>{{ parts.category(row.category) }}</td>
<td class="said"><bdi>{{ row.error_message }}</bdi></td></tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
</details>
{% endfor %}
</section>
{% endmacro %}

{% macro suspects(page) %}
<section id="suspects">
<h2>Most anomalous images</h2>
<p>Of each category those with the largest anomaly score. It says how far an image is from the good
ones of its own category: numbers of different categories don't compare.</p>
{% for name, rows in page.suspects %}
<details{% if loop.index <= 3 %} open{% endif %}>
<summary>{{ parts.category(name) }}</summary>
{% call parts.scroll("Most anomalous") %}
<table>
<thead><tr><th scope="col">image</th><th scope="col" class="number">anomaly score</th>
<th scope="col" class="number">defect probability</th><th scope="col">label</th>
<th scope="col">role</th></tr>
</thead>
<tbody>
{% for row in rows %}
<tr><td class="uri"><bdi>{{ row.uri }}</bdi></td>
<td class="number">{{ words.plain(row.anomaly_score) }}</td>
<td class="number">{{ words.share(row.defect_probability) }}</td>
<td>{% if row.is_defect is none %}<span class="soft">not known</span>
{%- elif row.is_defect %}defect{% if row.defect_type %}: <bdi>{{ row.defect_type }}</bdi>{% endif %}
{%- else %}good{% endif %}</td>
<td>{{ parts.named(row.role) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endcall %}
</details>
{% endfor %}
</section>
{% endmacro %}
"""

_PAGE = """\
{% import "parts" as parts with context %}
{% import "charts" as charts with context %}
{% import "sections" as sections with context %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ security }}">
<meta name="referrer" content="no-referrer">
<title>Run {{ page.report.run_id }}</title>
<style>
{% include "style" %}
{% include "run_style" %}
</style>
</head>
<body>
<a class="skip" href="#categories">To the counts</a>
<header>
{% set images = page.report.images %}
{% set scoring = page.report.scoring %}
<h1>Run <bdi>{{ page.report.run_id }}</bdi></h1>
<p>Published {{ page.report.finished_at }}.</p>
<ul class="facts">
<li><strong>{{ words.count(images.manifest) }}</strong> images</li>
<li><strong>{{ words.count(images.scored) }}</strong> scored</li>
<li{% if images.errors %} class="wrong"{% endif %}><strong>{{ words.count(images.errors) }}</strong>
errors</li>
{% if page.skipped %}<li><strong>{{ words.count(images.skipped) }}</strong> skipped</li>{% endif %}
{% if "images_per_s" in scoring %}
<li><strong>{{ "%.1f" | format(scoring.images_per_s) }}</strong> images/s</li>
<li><strong>{{ "%.1f" | format(scoring.bytes_per_s / 1e6) }}</strong> MB/s read</li>
{% endif %}
{% if "read" in page.report %}
<li><strong>{{ "{:,.1f}".format(page.report.read.bytes / 1e6) }}</strong> MB read</li>
{% endif %}
</ul>
{% if page.notes %}
<div class="note" role="note"><strong>Read this first</strong>
<ul>{% for note in page.notes %}<li>{{ note }}</li>{% endfor %}</ul></div>
{% endif %}
<nav aria-label="Sections"><ul>
{% for id, title in page.sections %}<li><a href="#{{ id }}">{{ title }}</a></li>{% endfor %}
</ul></nav>
</header>
<main>
{{ sections.categories(page) }}
{{ sections.work(page) }}
{% if page.distributions %}{{ sections.distributions(page) }}{% endif %}
{% if page.errors %}{{ sections.errors(page) }}{% endif %}
{% if page.suspects %}{{ sections.suspects(page) }}{% endif %}
<section id="provenance">
<h2>Provenance</h2>
<details><summary>What was scored, with what, on what</summary>
{{ parts.node(page.provenance, "report.json and run.json") }}
</details>
</section>
</main>
</body>
</html>
"""

TEMPLATES = {name: _SHARED[name] for name in ("style", "parts", "charts")} | {
    "page": _PAGE,
    "run_style": _STYLE,
    "sections": _SECTIONS,
}
