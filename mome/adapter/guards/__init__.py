"""What keeps a model with memory experts from misuse: threads, optimizers, second adapters, foreign configurations."""
