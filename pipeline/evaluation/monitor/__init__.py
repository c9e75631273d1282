"""A run against a reference run: what moved, by how much more than chance, and what it costs."""
