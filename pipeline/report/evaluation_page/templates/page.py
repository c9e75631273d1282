"""The page: its head, the order of its sections, the pictures and the provenance."""

PAGE = """\
{% import "parts" as parts with context %}
{% import "policies" as policies with context %}
{% import "charts" as charts with context %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ page.security }}">
<meta name="referrer" content="no-referrer">
<title>{{ page.report.title }}</title>
<style>
{% include "style" %}
</style>
</head>
<body>
<a class="skip" href="#policies">To the policies</a>
<header>
<h1><bdi>{{ page.report.title }}</bdi></h1>
<p>Measured on <bdi>{{ page.report.measured_on }}</bdi>.
{% if page.shown.entries %}{% set all = page.shown.entries[0].row %}
{% if page.shown.by_rows | length == 1 %}
{{ words.count(all.good) }} good images, {{ words.count(all.defects) }} defects,
{{ words.count(all.unlabelled) }} without a label.{% endif %}{% endif %}</p>
{% if page.report.warnings %}
<div class="note" role="note"><strong>Read this first</strong>
<ul>{% for warning in page.report.warnings %}<li>{{ warning }}</li>{% endfor %}</ul></div>
{% endif %}
{% if page.report.guarantee %}
<p class="note"><strong>Guarantee:</strong> {{ page.report.guarantee }}</p>
{% endif %}
<nav aria-label="Sections"><ul>
{% for id, title in page.sections %}<li><a href="#{{ id }}">{{ title }}</a></li>{% endfor %}
</ul></nav>
</header>
<main>
{{ policies.summary(page) }}
{{ policies.by_category(page) }}
{{ policies.heat_section(page, "misses", "Missed defects by category and defect type", page.misses,
  "There are no defects, so that none can be missed.") }}
{{ policies.heat_section(page, "alarms", "False alarms by category", page.false_alarms,
  "There are no good images, so that there can be no false alarm.") }}
{{ charts.quality(page) }}
{% if page.overall or page.by_category %}{{ charts.distributions(page) }}{% endif %}
{% if page.front %}{{ charts.front(page) }}{% endif %}
{% if page.report.flips %}{{ policies.flips(page) }}{% endif %}
{{ policies.gallery(page) }}
<section id="provenance">
<h2>Provenance</h2>
<details><summary>What was evaluated, and with what</summary>
{{ parts.node(page.provenance) }}
</details>
</section>
</main>
{% if page.gallery.pictures %}
<svg class="store" aria-hidden="true"><defs>
{% for uri in page.gallery.pictures %}
<image id="picture-{{ loop.index0 }}" width="96" height="96" href="{{ uri }}"/>
{% endfor %}
</defs></svg>
{% endif %}
</body>
</html>
"""
