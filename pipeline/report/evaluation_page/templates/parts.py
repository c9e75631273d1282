"""Pieces that sections share. Names from data stand in `bdi`, which no name can reach out of."""

PARTS = """\
{% macro named(value, absent="–") %}
{% if value is none or value == "" %}<span class="soft">{{ absent }}</span>
{%- else %}<bdi>{{ value }}</bdi>{% endif %}
{% endmacro %}

{% macro category(value) %}{{ named(value, "no category") }}{% endmacro %}

{% macro whose(entry) %}
<bdi>{{ entry.name }}</bdi>
{% if entry.remark %}<span class="tag">{{ entry.remark }}</span>{% endif %}
{% if entry.oracle %}
<span class="tag oracle">oracle: reads the true defect type, can't be used on a line</span>
{% endif %}
{% endmacro %}

{% macro bar(found, class) %}
{% if found %}
<svg class="bar {{ class }}" viewBox="0 0 130 12" role="img" aria-label="{{ found.says }}">
<title>{{ found.says }}</title>
<line class="track" x1="4" x2="126" y1="6" y2="6"/>
<line class="span" x1="{{ found.low }}" x2="{{ found.high }}" y1="6" y2="6"/>
<circle class="dot" cx="{{ found.point }}" cy="6" r="3.5"/>
</svg>
{% endif %}
{% endmacro %}

{% macro scroll(label) %}
<div class="scroll" role="region" tabindex="0" aria-label="{{ label }}">
{{ caller() }}
</div>
{% endmacro %}

{% macro node(it, file="evaluation.json") %}
{% if it.text is not none %}<span>{{ it.text }}</span>
{% else %}
<dl>
{% for child in it.children %}
<dt>{{ child.name }}</dt><dd>{{ node(child, file) }}</dd>
{% endfor %}
</dl>
{% if it.left_out %}<p class="soft">… {{ it.left_out }} more in {{ file }}</p>{% endif %}
{% endif %}
{% endmacro %}
"""
