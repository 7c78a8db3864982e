"""Settings that are chosen for a file of facts, and what is refused before a backbone is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from two_facts import CODE, FACTS, KEY

from mome.adapter.config import MomeConfig
from mome.facts.readers import write_jsonl
from mome.facts.strict import FactError
from mome.memory.memorize import memorize, memorize_file, memory_settings
from mome.train.settings import MemorySettings


def test_several_wordings_are_tuned_with_noise_and_a_single_one_in_variations_of_typing() -> None:
    both, one = memory_settings(FACTS, epochs=7), memory_settings([CODE])
    assert (both.wordings, both.prompt_dropout, both.state_noise, both.epochs) == (2, 0.5, 0.4, 7)
    assert (one.wordings, one.prompt_dropout, one.state_noise) == (1, 0.0, 0.0) and one.typings > 0
    assert memory_settings([CODE], typings=0).typings == MemorySettings().typings == 0


@pytest.mark.parametrize("changes", [{"num_experts": 4099}, {"num_experts": 16, "top_k": 32}])
def test_impossible_experts_are_refused_before_the_backbone_is_loaded(no_backbone: None, changes: dict) -> None:
    with pytest.raises(ValueError, match=f"{[*changes][-1]} must be"):
        memorize(FACTS, mome=MomeConfig(**changes))


def test_facts_that_contradict_each_other_are_refused_before_the_backbone_is_loaded(no_backbone: None) -> None:
    with pytest.raises(FactError, match="another answer"):
        memorize([KEY, replace(KEY, id="other", answer="gone")])


def test_a_folder_of_another_method_is_left_alone(no_backbone: None, tmp_path: Path) -> None:
    write_jsonl(FACTS, tmp_path / "facts.jsonl")
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match="another method"):
        memorize_file(tmp_path / "facts.jsonl", lora, "tiny-llama", {}, {}, {})
    with pytest.raises(ValueError, match="is a file"):
        memorize_file(tmp_path / "facts.jsonl", tmp_path / "facts.jsonl", "tiny-llama", {}, {}, {})
