"""What a user works with: facts are memorized, asked for, saved, loaded and edited.

Start at `memory` (class `Memory`). `memorize` makes one from facts, `loading` reads one from a folder. `answers`
generates answers, `checking` compares them with the stored facts, `report` says how memorizing went; `editing` changes
single facts.
"""
