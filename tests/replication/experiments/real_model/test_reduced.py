"""The measures of damage on fewer items."""

from __future__ import annotations

from mome.facts.public_sets import MultipleChoice
from mome.replication.damage.sets import Item, known_questions, unrelated_questions
from mome.replication.experiments.real_model.reduced import MEASURES, TUNED, Reduced, fewer, measured

ITEMS = [Item("1", "Where is Lima?", ("Lima",)), Item("2", "Who wrote Emma, and when was that?", ("Austen",))]


def test_the_items_are_a_fixed_part_of_each_set_and_a_larger_part_holds_a_smaller_one():
    drawn = fewer(unrelated_questions(), 20)
    assert len({item.id for item in drawn}) == 20
    assert fewer(unrelated_questions()[::-1], 20) == drawn == fewer(unrelated_questions(), 30)[:20]
    assert sorted(item.id for item in fewer(known_questions(), 999)) == sorted(item.id for item in known_questions())


def test_every_measure_has_a_value_for_each_item_and_tuned_questions_are_marked(random_backbone, facts):
    asked = [
        MultipleChoice("a", facts[0].question, ("Lima", "Rome"), (0,), "", ""),
        MultipleChoice("b", "Who?", ("I", "you"), (1,), "", ""),
    ]
    items = Reduced(ITEMS, ITEMS, {"truthfulqa_mc1": asked, "truthfulqa_mc2": asked, "mmlu_cloze": asked}, ITEMS)
    before, states = measured(random_backbone, items, [], None)
    assert set(before) == set(MEASURES) - {"leak_chat"} | {TUNED}  # without a chat template
    assert all(len(each) == 2 for each in before.values())
    assert before["kl"].tolist() == [0, 0] and before[TUNED].tolist() == [0, 0]
    after, _ = measured(random_backbone, items, facts, states)
    assert after[TUNED].to_dict() == {"a": 1, "b": 0}
    assert all(after[name].equals(before[name]) for name in ("kl", "mc1", "text_loss"))
