"""Evaluating policies on tables, without Ray: rows in, counts, figures and choices out."""
