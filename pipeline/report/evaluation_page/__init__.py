"""The parts of the HTML report of an evaluation: what each section shows, charts, templates."""
