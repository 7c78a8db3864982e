"""An open replication of the Mixture of Memory Experts (arXiv 2406.17642)."""
