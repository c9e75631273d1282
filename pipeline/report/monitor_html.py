"""The HTML page of a comparison of two runs: one file, no script, nothing from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.templates.style import STYLE
from pipeline.report.monitor import ORDER, named
from pipeline.report.page import SECURITY, environment

Rows = Sequence[Mapping[str, Any]]
_TITLES = {
    "drift": "drift",
    "watch": "watch",
    "ok": "ok",
    "not_comparable": "not comparable",
    "too_few_images": "no verdict, too few images",
}
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ security }}">
<meta name="referrer" content="no-referrer">
<title>{{ report.name }}: {{ titles[report.verdict] }}</title>
<style>
{{ style | safe }}
</style>
</head>
<body>
<header>
<h1><bdi>{{ report.run.run_id }}</bdi> against <bdi>{{ report.reference.run_id }}</bdi>:
{{ titles[report.verdict] }}</h1>
<p>{{ report.comparisons }} comparisons. Without any change, at most
{{ words.percent(report.config.alpha) }} of the runs raise an alarm, if their images are like those
of the reference and dependent images share a group.
Compared are <bdi>{{ report.run.rows }}</bdi>.</p>
{% if report.warnings %}
<div class="note" role="note"><strong>Read this first</strong>
<ul>{% for warning in report.warnings %}<li>{{ warning }}</li>{% endfor %}</ul></div>
{% endif %}
</header>
<main>
<section id="verdicts">
<h2>Categories</h2>
<div class="scroll" role="region" tabindex="0" aria-label="Categories"><table>
<caption>The worst first. Independent images: those of one group count as few.</caption>
<thead><tr><th scope="col">Category</th><th scope="col">Verdict</th>
<th scope="col">What moved</th><th scope="col">Reference</th><th scope="col">Run</th></tr></thead>
<tbody>
{% for one in categories %}
<tr><th scope="row"><bdi>{{ named(one.category) }}</bdi></th>
<td>{{ titles[one.verdict] }}</td><td><bdi>{{ one.reason }}</bdi></td>
<td class="number">{{ words.count(one.reference_images) }}
<small>({{ words.count(one.reference_independent) }})</small></td>
<td class="number">{{ words.count(one.images) }}
<small>({{ words.count(one.independent) }})</small></td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% if flagged %}
<section id="flagged">
<h2>Flagged by the policies in use</h2>
<div class="scroll" role="region" tabindex="0" aria-label="Flagged rates"><table>
<caption>In brackets Wilson's interval, then Clopper and Pearson's, over independent
images.</caption>
<thead><tr><th scope="col">Policy</th><th scope="col">Category</th><th scope="col">Of</th>
<th scope="col">Flagged</th><th scope="col">Rate</th></tr></thead>
<tbody>
{% for one in flagged %}
<tr><th scope="row"><bdi>{{ one.policy }}</bdi></th><td><bdi>{{ named(one.category) }}</bdi></td>
<td>{{ one.of }}</td>
<td class="number">{{ words.count(one.flagged) }} of {{ words.count(one.images) }}</td>
<td class="number">{{ words.percent(one.rate) }} [{{ words.interval(one.low, one.high) }}],
[{{ words.interval(one.least, one.most) }}]</td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}
{% if near %}
<section id="near">
<h2>Near to a threshold</h2>
<div class="scroll" role="region" tabindex="0" aria-label="Scores near thresholds"><table>
<caption>Images whose decision a small change of the score would turn.</caption>
<thead><tr><th scope="col">Policy</th><th scope="col">Category</th><th scope="col">Score</th>
<th scope="col">Threshold</th><th scope="col">Within</th><th scope="col">Reference</th>
<th scope="col">Run</th></tr></thead>
<tbody>
{% for one in near %}
<tr><th scope="row"><bdi>{{ one.policy }}</bdi></th><td><bdi>{{ named(one.category) }}</bdi></td>
<td><bdi>{{ one.score }}</bdi></td><td class="number">{{ words.plain(one.threshold) }}</td>
<td class="number">± {{ words.plain(one.within) }}</td>
<td class="number">{{ share(one.reference_near, one.reference_images) }}</td>
<td class="number">{{ share(one.near, one.images) }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}
<section id="measures">
<h2>Every comparison</h2>
<div class="scroll" role="region" tabindex="0" aria-label="Comparisons"><table>
<caption>p: how often chance alone does as much, corrected for all comparisons (Holm). PSI in
brackets: what chance gives on average.</caption>
<thead><tr><th scope="col">Category</th><th scope="col">Measure</th><th scope="col">Verdict</th>
<th scope="col">Reference</th><th scope="col">Run</th><th scope="col">PSI</th>
<th scope="col">KS</th><th scope="col">Wasserstein</th><th scope="col">p</th></tr></thead>
<tbody>
{% for one in measures %}
<tr><th scope="row"><bdi>{{ named(one.category) }}</bdi></th>
<td><bdi>{{ one.measure }}</bdi><span class="tag">{{ one.kind }}</span></td>
<td>{{ titles[one.verdict] }}</td>
<td class="number">{{ words.plain(one.reference_value) }}</td>
<td class="number">{{ words.plain(one.value) }}</td>
<td class="number">{{ words.share(one.psi) }} <small>({{ words.share(one.psi_of_chance) }})</small>
</td>
<td class="number">{{ words.share(one.ks) }}</td>
<td class="number">{{ words.plain(one.wasserstein) }}</td>
<td class="number">{{ words.p_value(one.corrected) }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>
</main>
</body>
</html>
"""


def monitor_html(report: Mapping[str, Any], tables: Mapping[str, Rows]) -> str:
    """The page, to be written as UTF-8.

    Args:
        report: of a comparison.
        tables: rows of `verdicts`, `drift`, `flagged` and `near`.
    """
    found = environment({"page": _PAGE})

    def worst_first(row: Mapping[str, Any]) -> int:
        return ORDER.index(row["verdict"])

    return found.get_template("page").render(
        report=report,
        categories=sorted(tables["verdicts"], key=worst_first),
        measures=sorted(tables["drift"], key=worst_first),
        flagged=tables["flagged"],
        near=tables["near"],
        security=SECURITY,
        style=STYLE,
        titles=_TITLES,
        words=words,
        named=named,
        share=_share,
    )


def _share(part: int | None, of: int | None) -> str:
    return words.percent(part / of) if part is not None and of else words.NOTHING
