"""Single facts of a memory are added, updated and deleted, and such edits taken back. Start at `editor`."""
