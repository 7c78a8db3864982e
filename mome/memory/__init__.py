"""What a user has: facts are memorized, asked for, saved, loaded and edited.

Start at `memory` (class `Memory`); `memorize` makes one, `loading` reads one from a folder, `checking` holds free
answers against what was memorized.
"""
