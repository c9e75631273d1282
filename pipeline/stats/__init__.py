"""Exact, additive statistics of features: moment sums, Gaussians fitted to them, distances."""
