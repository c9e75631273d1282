"""The networks and their weights: arrays in, arrays out; Ray is not known here."""
