"""A saved adapter: its files, the checksums that verify them, and how it replaces an older one.

Start at `storage` (what PEFT calls to save and load), then `folder` (the manifest with the checksums) and `replacing`
(old and new adapter never mix, even if the process is killed). `ownership` decides which files may be overwritten,
`identity` recognizes the backbone by its weights, `card` writes README.md.
"""
