"""What the records of a format mean: its types, its names, its graph. The readers put them together."""
