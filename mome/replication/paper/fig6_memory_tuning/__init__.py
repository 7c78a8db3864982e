"""Notebook 07: key facts to zero loss, the rest as before (figure 6)."""
