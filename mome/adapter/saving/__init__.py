"""A saved adapter: what is in its folder, what vouches for it, and how it takes an older one's place."""
