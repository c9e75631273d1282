"""Figures of policies from their counts, and honest ways to choose among them: pure arithmetic."""
