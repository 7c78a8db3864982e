"""Make what a script can make of this folder: `python data/measures/compile.py lambada FILE` or `... known BACKBONE`.

`lambada` draws the passages from `lambada_test.jsonl` as published (a JSON object with `text` a line). `known` asks a
backbone every question of known_candidates.jsonl under three prompts and keeps the first `QUESTIONS` that it answers
rightly under all of them. Candidates whose answer is that of a fact in data/facts/unknown.jsonl about a subject they
name are left out: such facts are memorized with other answers.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mome.facts.shipped import shipped_facts
from mome.files.atomic import write_atomically
from mome.lm.loading import load_backbone
from mome.replication.damage.known import known_answers, known_by_item
from mome.replication.damage.sets import Item, read_items
from mome.replication.damage.texts import normalized

FOLDER = Path(__file__).parent
PASSAGES, QUESTIONS = 300, 300


def draw_passages(file: Path) -> None:
    """Write lambada.jsonl: the passages with the lowest SHA-256 of "lambada 0" and their text, in published order."""
    texts = [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]
    keys = {text: hashlib.sha256(f"lambada 0 {text}".encode()).hexdigest() for text in texts}
    chosen = set(sorted(keys, key=keys.__getitem__)[:PASSAGES])
    rows = [
        {"id": f"lambada-{place}", "text": text.strip()} for place, text in enumerate(texts, start=1) if text in chosen
    ]
    write("lambada", rows)


def choose_known(name: str) -> None:
    """Write known_questions.jsonl, and print how many candidates were tried, by source, and how many were right."""
    candidates = [
        item
        for item in read_items(FOLDER / "known_candidates.jsonl", "question", ("answers", "source"))
        if not told_elsewhere(item)
    ]
    backbone = load_backbone(name)
    answers = known_answers(backbone.model, backbone.tokenizer, candidates)
    right = known_by_item(answers).set_index("item")["right_all"]
    for prompt, part in answers.groupby("format", sort=False):
        print(f"{prompt}: {int(part['right'].sum())} of {len(part)} right")
    for source in dict.fromkeys(item.source for item in candidates):
        tried = [item for item in candidates if item.source == source]
        print(f"{source}: {sum(bool(right[item.id]) for item in tried)} of {len(tried)} right under all prompts")
    kept = [item for item in candidates if right[item.id]][:QUESTIONS]
    write("known_questions", [record(item) for item in kept])


def told_elsewhere(item: Item) -> bool:
    """Whether a shipped fact that may be memorized says what the question asks."""
    answers = {normalized(answer) for answer in item.answers}
    return any(subject in item.text and answer in answers for subject, answer in told())


def told() -> list[tuple[str, str]]:
    """Subject and normalized answer of every shipped unknown fact."""
    if not TOLD:
        TOLD.extend((fact.id.split("/", 1)[1], normalized(fact.answer)) for fact in shipped_facts("unknown"))
    return TOLD


TOLD: list[tuple[str, str]] = []


def record(item: Item) -> dict[str, Any]:
    """The line of a question."""
    return {"id": item.id, "question": item.text, "answers": list(item.answers), "source": item.source}


def write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file of this folder, a JSON object a line."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomically(FOLDER / f"{name}.jsonl", "".join(lines))
    print(f"{name}.jsonl: {len(lines)} lines")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("lambada", "known"):
        sys.exit(__doc__)
    draw_passages(Path(sys.argv[2])) if sys.argv[1] == "lambada" else choose_known(sys.argv[2])
