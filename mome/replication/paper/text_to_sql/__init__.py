"""Notebook 15: questions answered by SQL over a shipped database (the Q&A behind claim C15)."""
