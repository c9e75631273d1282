"""Sweeps: many policies from a template, chosen on some rows and judged on others."""
