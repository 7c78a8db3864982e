"""Editing single facts in memory experts (paper, section 10), and what the editing field measures of it."""
