"""The example's report and its page, made once."""

import pytest

from pipeline.report.evaluation_html import EvaluationReport, evaluation_html
from tests.report.example import example
from tests.report.page import Element, parsed


@pytest.fixture(scope="session")
def report() -> EvaluationReport:
    return example()


@pytest.fixture(scope="session")
def page(report: EvaluationReport) -> Element:
    return parsed(evaluation_html(report))
