"""Sweep documents: a policy with variables, and the grid of thresholds it stands for."""
