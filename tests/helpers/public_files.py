"""Files of TruthfulQA and MMLU in their published formats: made-up ones, and the published ones where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "data"

TRUTHFULQA_CSV = """\
Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source
Adversarial,Myths,Do pigs fly? ,"No, they walk",No; They walk,Yes,https://example.org/pigs
Adversarial,Law,How old is 007?,NA,NA; null,7,
Other,"Law, old",Who wrote it?,"Rene\u0301 ""R"" Roe",Roe,Doe,https://example.org/a;b
"""
CHOICES = [
    {
        "question": "Who wrote it?",
        "mc1_targets": {"Roe": 1, "Doe": 0},
        "mc2_targets": {"Roe": 1, "R. Roe": 1, "Doe": 0},
    },
    {"question": "Do pigs fly? ", "mc1_targets": {"No": 1, "Yes ": 0}, "mc2_targets": {"No": 1, "Yes": 0}},
    {"question": "How old is 007?", "mc1_targets": {"NA": 1, "7": 0}, "mc2_targets": {"NA": 1, "null": 1, "7": 0}},
]
MMLU_FILES = {
    "test/astronomy_test.csv": 'Why?, 1,02,None,NA,B\r\n"Two\r\n  lines, ""quoted""",a,b,a,d,D\r\nWhy?,1,2,3,4,C\r\n',
    "test/art_history_test.csv": "Who?,a,b,c,d,A\n",
    "dev/astronomy_dev.csv": "Where?,a,b,c,d,A\n",
    "dev/art_history_dev.csv": "Where?,a,b,c,d,A\n",
    "val/astronomy_val.csv": "When?,a,b,c,d,A\n",
}


def write_files(folder: Path) -> Path:
    """Made-up data in the published formats, with the oddities the published files have."""
    (folder / "truthfulqa").mkdir(parents=True)
    (folder / "truthfulqa" / "TruthfulQA.csv").write_text(TRUTHFULQA_CSV, encoding="utf-8-sig")
    (folder / "truthfulqa" / "mc_task.json").write_text(json.dumps(CHOICES, indent=2), encoding="utf-8")
    for name, content in MMLU_FILES.items():
        file = folder / "mmlu" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
    return folder


def published() -> Path:
    if not (PUBLISHED / "truthfulqa").is_dir() or not (PUBLISHED / "mmlu").is_dir():
        pytest.skip("the published files of TruthfulQA and MMLU are not beside the repository")
    return PUBLISHED
