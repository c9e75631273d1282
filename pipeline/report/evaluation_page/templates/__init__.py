"""The report's Jinja templates, by the name under which they include each other."""

from pipeline.report.evaluation_page.templates.charts import CHARTS
from pipeline.report.evaluation_page.templates.page import PAGE
from pipeline.report.evaluation_page.templates.parts import PARTS
from pipeline.report.evaluation_page.templates.policies import POLICIES
from pipeline.report.evaluation_page.templates.style import STYLE

TEMPLATES = {
    "page": PAGE,
    "style": STYLE,
    "parts": PARTS,
    "policies": POLICIES,
    "charts": CHARTS,
}
