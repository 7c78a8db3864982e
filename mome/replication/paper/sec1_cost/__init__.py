"""Notebook 08: what training takes, by formula and by count (section 1.1)."""
