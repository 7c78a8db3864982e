"""The backbones of the replication are asked in one form."""

from __future__ import annotations

from pathlib import Path

from chat_templates import chatting

from mome.lm.loading import load_backbone
from mome.lm.prompts.form import prompt_form
from mome.replication.notebook.backbones import asked_backbone


def test_a_backbone_with_a_chat_template_is_asked_as_question_and_answer(backbone_folder: Path, tmp_path: Path):
    plain = load_backbone(str(backbone_folder))
    plain.model.save_pretrained(tmp_path)
    chatting(plain.tokenizer).save_pretrained(tmp_path)
    assert prompt_form(load_backbone(str(tmp_path)).tokenizer).template
    assert prompt_form(asked_backbone(str(tmp_path)).tokenizer).name == "qa"
    assert prompt_form(asked_backbone(str(backbone_folder)).tokenizer) == prompt_form(plain.tokenizer)
