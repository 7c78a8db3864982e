"""Random tiny models of the families on the Hub, each written to a folder as the Hub would have it."""

import json
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

SLIDING = ["sliding_attention", "full_attention"]
# a window of 8 tokens is shorter than any prompt, so that a wrong mask of a layer is seen
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "mistral": (MistralConfig, {"sliding_window": 8}),
    "qwen2": (Qwen2Config, {"use_sliding_window": True, "sliding_window": 8, "layer_types": SLIDING * 2}),
    "qwen3": (Qwen3Config, {}),
    "gemma": (GemmaConfig, {"hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": (Gemma2Config, {"sliding_window": 8, "layer_types": SLIDING * 2, "query_pre_attn_scalar": 8}),
    "gemma3": (Gemma3TextConfig, {"sliding_window": 8, "layer_types": SLIDING * 2, "query_pre_attn_scalar": 8}),
}
FAMILIES["gemma3 with images"] = FAMILIES["gemma3"]
IMAGES = {"image_size": 28, "patch_size": 14, "num_hidden_layers": 1, "num_attention_heads": 2}
CHAT = (
    "{% for message in messages %}<user>{{ message['content'] }}</user>{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


def with_images(text: Gemma3TextConfig) -> Gemma3Config:
    """The same model with a tower that reads images, as the larger ones of Gemma 3 have."""
    places = {name: text.vocab_size - 1 for name in ("image_token_index", "boi_token_index", "eoi_token_index")}
    tower = {**IMAGES, "hidden_size": 16, "intermediate_size": 16}
    return Gemma3Config(text_config=text, vision_config=tower, **places)


def write_model(folder: Path, family: str, tokenizer: Path, *, tied: bool, chat: bool = False) -> Path:
    """A random model of four layers and hidden size 32 with the tokenizer of another folder."""
    make, own = FAMILIES[family]
    names = json.loads((tokenizer / "config.json").read_text("utf-8"))
    shared = {name: names[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    config = make(
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "max_position_embeddings": 256},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": tied},
        **{**shared, **own},
    )
    if family == "gemma3 with images":
        config = with_images(config)
        config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # of the size of trained ones: tokens can be told apart
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif "post_feedforward_layernorm" in name:  # bounds what an MLP can add to the large embeddings
                parameter.add_(5)
            else:
                parameter.mul_(1 if "norm" in name else 30 if "embed" in name or "lm_head" in name else 8)
    model.save_pretrained(folder)
    for path in tokenizer.glob("tokenizer*"):
        copyfile(path, folder / path.name)
    if chat:
        (folder / "chat_template.jinja").write_text(CHAT, "utf-8")
    return folder
