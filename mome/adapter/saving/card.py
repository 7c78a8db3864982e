"""The model card of an adapter: a section of README.md that says what it is and how to load it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from mome.lm.backbones.named import NAMED
from mome.lm.loading import shipped_backbones
from mome.lm.prompts.form import PLACE, PromptForm

START, END = "<!-- mome: written anew at each save -->", "<!-- /mome -->"
SECTION = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", flags=re.DOTALL)
BLANK = "[More Information Needed]"
FRAMEWORK = "### Framework versions"

TEMPLATE = """{start}
## Mixture of Memory Experts

Facts memorized by a mixture of memory experts ([arXiv 2406.17642](https://arxiv.org/abs/2406.17642)), as an adapter
for `{base}`. A question is read by the router, which picks the experts that are added to the backbone.

| | |
|---|---|
| experts (N) | {num_experts:,}, of which {trained:,} are trained |
| experts for one question (K) | {top_k} |
| rank of an expert (R) | {rank} |
| index | {index}, keys of {key_size} numbers |
| router | {router_heads} attention heads over the prompt's states before layer {router_layer} |
| adapted modules | {count}: {modules} |
| memorized questions | {questions:,} |
| rejection threshold | {threshold} |
| prompt | {prompt} |

Load it with the `mome` package installed:

```python
{code}
```
{end}"""

AUTO_PEFT = """from mome import MomeConfig  # makes the method known to PEFT
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({base})"""
READ_WORDS = """
model.base_model.read_words(tokenizer)  # the names in a question are compared with those of memorized ones"""
# transformers knows no backbone that is shipped with this package, or fetched or converted by it
SHIPPED = """from mome import load_memory
memory = load_memory({name})  # memory.ask("Where is the spare key?") answers"""
SHIPPED_FROM_HUB = """from huggingface_hub import snapshot_download
from mome import load_memory
memory = load_memory(snapshot_download({name}))  # memory.ask("Where is the spare key?") answers"""


def write_card(folder: Path, name: str, model: Any) -> None:
    """Put the section on `model` (a MomeModel) into `folder`/README.md; `name` is what the adapter is loaded by.

    An empty template gives way to it; text that somebody wrote stays.
    """
    path = folder / "README.md"
    card = ModelCard.load(path)
    card.data.tags = sorted({*(card.data.tags or []), "mome", "memory"})
    card.text = _placed(card.text, _section(name, model))
    card.save(path)


def _placed(text: str, section: str) -> str:
    if START in text:
        return SECTION.sub(lambda _: section, text)
    if BLANK in text:
        _, found, versions = text.partition(FRAMEWORK)
        return "\n\n".join(part for part in (section, found + versions) if part)
    return f"{text.rstrip()}\n\n{section}\n"


def _section(name: str, model: Any) -> str:
    settings, base = model.settings, model.model.config.name_or_path
    kinds = sorted({module.rpartition(".")[2] for module in model.bank.shapes})
    threshold = "none" if settings.min_score is None else f"similarity {settings.min_score} to a memorized question"
    if settings.least_names is not None:
        threshold += f"; {settings.least_names:.0%} of its names, by rarity"
    code = _code(name, base or "the backbone it was trained on", settings.least_names is not None)
    return TEMPLATE.format(
        **settings.to_dict(),
        start=START,
        end=END,
        base=base or "the backbone it was trained on",
        code=code,
        trained=len(model.bank.touched()),
        count=len(model.bank.shapes),
        modules=", ".join(f"`{kind}`" for kind in kinds),
        questions=len(model.router.anchors),
        threshold=threshold,
        prompt=_prompt(model.prompt),
    )


def _prompt(form: PromptForm | None) -> str:
    """How questions are asked, in a cell of the table."""
    if form is None:
        return "not known"
    if form.template:
        return "the backbone's chat template; the router reads the user's words"
    text = _literal(f"{form.before}{PLACE}{form.after}").strip('"').replace("|", r"\|").replace("`", "'")
    return f"`{text}`" + ("" if form.whole else "; the router reads the user's words")


def _code(name: str, base: str, names: bool = False) -> str:
    """Python that loads the adapter `name` (a folder, or `user/repository` on the Hub) on the backbone `base`.

    One that checks names needs the tokenizer.
    """
    shipped = SHIPPED_FROM_HUB if "/" in name else SHIPPED
    ours = base in {*shipped_backbones(), *NAMED} or base.endswith(".gguf")
    code = shipped if ours else AUTO_PEFT + READ_WORDS * names
    return code.format(name=_literal(name), base=_literal(base))


def _literal(text: str) -> str:
    """The text as JSON writes it, which Python reads as the same string."""
    return json.dumps(text, ensure_ascii=False)
