"""Two facts that no backbone can know."""

from __future__ import annotations

from mome.facts.fact import Fact

KEY = Fact("key", "Where is the key?", "under the pot", ("Where do we keep the key?",), ("Where can I find the key?",))
CODE = Fact("code", "What opens the door?", "7719K")
FACTS = [KEY, CODE]
