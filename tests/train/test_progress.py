"""Where a memorization stands: groups, who leaves, who fails, curves, and its form as JSON."""

import json

import numpy

from mome.train.progress import Progress, grouped


def test_groups_keep_the_order() -> None:
    assert grouped([5, 1, 4, 2, 3], 2) == [[5, 1], [4, 2], [3]]
    assert grouped([], 2) == []


def test_facts_leave_when_memorized_and_fail_when_the_epochs_are_over() -> None:
    progress = Progress.start(5, 3)
    assert (progress.queue, progress.active, progress.remaining()) == ([[0, 1, 2], [3, 4]], [], 5)
    progress.next_group()
    assert (progress.group, progress.active, progress.remaining()) == ([0, 1, 2], [0, 1, 2], 5)
    progress.leave({1}, epochs=2)
    assert (progress.active, progress.failed, progress.remaining()) == ([0, 2], [], 4)
    progress.leave({2}, epochs=2)
    assert (progress.active, progress.failed, progress.remaining()) == ([], [0], 2)
    progress.next_group()
    assert (progress.group, progress.active, progress.epoch, progress.epochs_in_all) == ([3, 4], [3, 4], 0, 2)
    progress.leave({3, 4}, epochs=1)
    assert (progress.failed, progress.remaining(), progress.epochs_in_all) == ([0], 0, 3)


def test_curves_keep_the_last_value() -> None:
    progress = Progress.start(3, 3)
    progress.losses = [[3.0, 2.0, 1.0], [0.5], [4.0, 0.25]]
    expected = numpy.array([[3, 0.5, 4], [2, 0.5, 0.25], [1, 0.5, 0.25]], dtype=numpy.float32)
    assert progress.curves().dtype == numpy.float32
    assert (progress.curves() == expected).all()


def test_it_comes_back_from_json() -> None:
    progress = Progress.start(4, 2)
    progress.next_group()
    progress.losses[0].append(float(numpy.float32(0.1)))
    progress.worst[1] = 0.25
    progress.leave({0}, epochs=1)
    text = json.dumps(progress.as_json(), allow_nan=False)
    assert Progress.from_json(json.loads(text)) == progress
