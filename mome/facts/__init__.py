"""Facts: what one is (`fact`), how files of them are read strictly (`readers`), shipped and public ones."""
