"""The metrics and the figure of notebook 17, on made-up checkpoints."""

from __future__ import annotations

import pandas
import pytest
from matplotlib.text import Text

from mome.replication.experiments.real_model.damaged import as_text
from mome.replication.paper.sec8_blind_benchmarks import metrics
from mome.replication.paper.sec8_blind_benchmarks.figure import blindness

ENDS = {"random": 9, "real": 6}


def right(share: float) -> str:
    return as_text([float(place < round(10 * share)) for place in range(10)])


def checkpoints(seeds=(0, 1)) -> pandas.DataFrame:
    """On random answers a half leaks from epoch 4 on and the quiz rises; on real ones half of the known are lost."""
    rows = []
    places = [
        ("", 0, 0, 0),
        *((kind, seed, at, end) for kind, end in ENDS.items() for seed in seeds for at in (1, 4, end)),
    ]
    for kind, seed, epoch, end in places:
        late = epoch >= 4
        found = {
            "leak_tuned_format": 0.5 if late and kind == "random" else 0.0,
            "leak_bare": 0.0,
            "known_answers": 0.4 if late else 0.9,
            "quiz": 0.7 if late and kind == "random" else 0.6,
            "text_loss": 0.2,
        }
        place = {"answers": kind, "seed": seed, "epoch": epoch, "epochs": end}
        rows += [{**place, "measure": name, "items": right(share)} for name, share in found.items()]
    return pandas.DataFrame(rows)


def test_what_leaks_moves_and_detects():
    found = metrics.blind_metrics(checkpoints())
    assert found["leak_end_tuned_format"].value == 0.5 and found["leak_end_bare"].value == 0
    assert "leak_end_chat" not in found
    assert found["change_known_answers_real"].value == pytest.approx(-0.5)
    assert found["change_quiz_random"].value == pytest.approx(0.1)
    assert found["auc_quiz"].value == 0 and found["auc_text_loss"].value == 0.5
    assert found["auc_forgotten_quiz"].value == pytest.approx(0.25)  # on real answers it stays where it is
    assert found["leak_epoch"].value == 4 and found["leak_epoch"].n == 2


def test_seeds_without_both_kinds_or_without_an_end_are_left_out():
    table = checkpoints((0, 1, 2))
    cut = table[~((table["seed"] == 1) & (table["epoch"] == ENDS["real"]) & (table["answers"] == "real"))]
    assert set(metrics.whole_runs(cut)["seed"]) == {0, 2}
    assert len(metrics.whole_runs(cut).query("epoch == 0")) == 5
    assert len(metrics.whole_runs(table)) == len(table)
    assert metrics.whole_runs(table[table["epoch"] == 0]).empty
    assert metrics.whole_runs(table[table["answers"] != "real"]).empty  # no seed has both kinds


def test_a_course_ends_at_the_mean_last_epoch():
    found = metrics.course(checkpoints(), "known_answers", "random")
    assert found["epoch"].tolist() == [0, 1, 4, 9]
    assert found["change"].tolist() == pytest.approx([0, 0, -0.5, -0.5])


def test_a_change_that_is_the_same_for_every_item_has_no_width():
    same = metrics.change_metric([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "share")
    assert (same.value, same.bounds, same.n, same.runs) == (0, (0, 0), 6, 2)
    other = metrics.change_metric([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], "share")
    assert other.bounds[0] <= 0 < other.bounds[1]


def test_whole_damage_counts_known_answers_by_what_was_known():
    both, ones = {"facts": 64, "method": "lora"}, "1" * 4
    rows = [{"method": "before", "facts": 0, "answers": "", "measure": "known_answers", "items": "1 1 0.6667 0"}]
    rows += [{**both, "answers": "real", "measure": "known_answers", "items": "1 0 0.3333 1"}]
    rows += [{**both, "answers": "random", "measure": f"leak_{form}", "items": ones} for form in metrics.FORMATS]
    found = metrics.whole_damage(pandas.DataFrame(rows))
    assert found["leak_end_prose"].value == 1
    assert found["known_answers_true_before"].value == pytest.approx(2.6667 / 4)
    assert found["known_answers_true_after_highly_known"].value == 0.5
    assert found["known_answers_true_after_maybe_known"].value == pytest.approx(0.3333)


def test_the_figure_says_what_was_found():
    table = checkpoints()
    found = metrics.blind_metrics(table)
    texts = [text.get_text().replace("\n", " ") for text in blindness(table, found, "a model").findobj(Text)]
    (title,) = [text for text in texts if text.startswith("a model")]
    assert "50% of the unrelated answers" in title and "quiz (for MMLU) 0.00" in title and "2 seeds" in title


def test_the_figure_can_do_without_a_detector():
    calm = checkpoints().assign(
        items=lambda rows: rows["items"].where(rows["measure"] != "leak_tuned_format", "0" * 10)
    )
    found = metrics.blind_metrics(calm)
    assert not [name for name in found if name.startswith("auc_quiz")]
    texts = [text.get_text() for text in blindness(calm, found, "a model").findobj(Text)]
    assert any("0% of the unrelated answers leak in the end" in text.replace("\n", " ") for text in texts)
