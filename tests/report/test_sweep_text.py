"""What is printed of a sweep's policies tells them apart."""

from __future__ import annotations

from pipeline.report.sweep import variables_in_words


def test_policies_whose_values_differ_by_category_are_told_apart() -> None:
    two = {"low": {"grid": 1.25, "tile": 13.5}, "high": 20.0}
    assert variables_in_words(two) == "low 1.25 for grid and 13.5 for tile, high 20"
    many = {"low": {"carpet": 4.0, "grid": 1.25, "tile": 13.5}}
    assert variables_in_words(many) == "low 1.25 to 13.5 in 3 categories"


def test_a_template_is_told_by_its_number() -> None:
    assert variables_in_words({"template": 1, "low": 0.123456789}) == "template 1, low 0.123457"
