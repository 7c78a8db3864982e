"""Notebook 14: which causes suffice for hallucinations (section 4)."""
