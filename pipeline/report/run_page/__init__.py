"""The pieces of a run's page: what it tells, and its templates."""
