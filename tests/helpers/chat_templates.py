"""Chat templates for the tests' tokenizers, with the special tokens that these have: <s> and </s>."""

import copy
from typing import Any

CHAT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<s>system\nBe brief.</s>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def chatting(tokenizer: Any, template: Any = CHAT) -> Any:
    """A copy of the tokenizer with a chat template and with no form chosen or kept."""
    other = copy.deepcopy(tokenizer)
    for name in [name for name in vars(other) if name.startswith("mome_")]:
        del vars(other)[name]
    other.chat_template = template
    return other
