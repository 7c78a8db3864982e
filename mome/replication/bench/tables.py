"""Names that the tables use, for contenders and stages."""

EXPERTS, GATHERED = "mome ops", "gather + bmm in torch"
FLAT, PRODUCT, TORCH = "topk_flat", "topk_product_key", "torch.topk(q @ K.T)"
MEMORY, LORA, BARE = "memory experts", "PEFT LoRA r=32", "bare backbone"
TUNING, PREFILL, TOKEN = "tuning", "prefill", "token"
