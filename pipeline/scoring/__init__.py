"""Bundles, and scoring arrays or files with one, without Ray."""
