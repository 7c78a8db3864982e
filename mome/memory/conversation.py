"""A conversation with a memory: turns of a user, each answered from memory or by the backbone, shown as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mome.lm.prompts.frame import prompt_ids
from mome.lm.round_trip import check_askable
from mome.lm.streaming import Show
from mome.memory.answers import FreeAnswer, stream_answer, stream_backbone, undisturbed
from mome.memory.checking import Answer, WhenWrong, check_answers, check_choice, recognized_fact
from mome.memory.memory import Memory, check_questions

LONGEST_TURN = 256  # tokens of an answer of the backbone


class Conversation:
    """Turns with one memory; `turns` holds what was said and answered.

    The last question alone is routed, so that what was said before does not hide that it is a memorized one. The
    backbone answers after the turns before, of which the oldest are left out where its context ends.
    """

    def __init__(self, memory: Memory, when_wrong: WhenWrong = "abstain", longest: int = LONGEST_TURN) -> None:
        """`when_wrong` is that of `Memory.ask_all`, `longest` the most tokens of an answer of the backbone.

        Raises:
            ValueError: `when_wrong` is none of the three.
        """
        check_choice(when_wrong)
        self.memory, self.when_wrong, self.longest = memory, when_wrong, longest
        self.turns: list[tuple[str, str]] = []

    def ask(self, question: str, show: Show, file: str = "question") -> Answer:
        """The answer to the next question, as `Memory.ask` gives it, but the backbone has read the turns before.

        `show` is given the text in pieces while it is generated. A text from the experts is shown as far as it is the
        start of the recognized fact's answer, so it may end before `Answer.text`, which is what counts.

        Raises:
            FactError: the question is empty, has white space around it, or is too long for the backbone.
        """
        backbone = self.memory.backbone
        check_questions([question], file)
        check_askable(backbone, [question], file)
        holdings = None if self.memory.editor is None else self.memory.editor.holdings

        def listen(found: FreeAnswer) -> Show:
            if holdings is None or not found.recognized:
                return show
            return _Checked(recognized_fact(found, holdings).answer, show)

        with undisturbed(backbone):
            read = question if holdings is None else holdings.read_as(question)
            history = self._fitting(read, self.turns)
            free = stream_answer(backbone, read, history, listen, backbone_longest=self.longest)
            (answer,) = check_answers(backbone, [read], [free], holdings, self.when_wrong, history)
        self.turns.append((question, answer.text))
        return answer if read == question else replace(answer, read_as=read)

    def own(self, show: Show) -> str | None:
        """What the backbone itself says to the last question, without the adapter; None before the first one."""
        if not self.turns:
            return None
        *before, (question, _) = self.turns
        history = self._fitting(question, before)
        return stream_backbone(self.memory.backbone, question, history, show, self.longest)

    def _fitting(self, question: str, turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last of the `turns` that the backbone can read before the question and its answer."""
        kept, tokenizer = list(turns), self.memory.backbone.tokenizer
        limit = getattr(self.memory.backbone.model.config, "max_position_embeddings", None)
        while kept and limit is not None:
            (row,) = prompt_ids(tokenizer, [question], kept)
            if len(row) + self.longest <= limit:
                break
            del kept[0]
        return kept


class _Checked:
    """Passes on a text as long as it is the start of the expected one."""

    def __init__(self, expected: str, show: Show) -> None:
        self.expected, self.show, self.text = expected, show, ""

    def __call__(self, piece: str) -> None:
        self.text += piece
        if self.expected.startswith(self.text):
            self.show(piece)
