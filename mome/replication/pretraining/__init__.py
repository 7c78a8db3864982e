"""How the shipped backbones were made: their text (`corpus`), their training (`pretrain`), what they can do."""
