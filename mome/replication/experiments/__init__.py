"""Measurements that several notebooks share: which facts, which runs, which tables.

Start at `memorized` (memory experts) and `lora`; `pools` draws the facts, `plan` has the settings.
"""
