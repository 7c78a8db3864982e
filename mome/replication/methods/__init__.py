"""Every way of answering questions from a set of facts, behind the one signature of `method`."""
