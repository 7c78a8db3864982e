"""Answers come back exactly as they are, or are named before training with the reason; questions are read as text."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mome.facts.fact import Fact
from mome.facts.strict import FactError
from mome.lm.encoding import encode_question
from mome.lm.generation import exact
from mome.lm.loading import Backbone, load_backbone
from mome.lm.round_trip import UnwritableError, check_askable, find_obstacles, holdable

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789?:.,'"


def backbone_of(normalizer: Any = None, context: int | None = 512, **options: Any) -> Any:
    """A backbone that is a tokenizer of single characters, without a model to judge."""
    words = {word: place for place, word in enumerate(["<s>", "</s>", "<unk>", " ", *LETTERS, "\n"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    if normalizer is not None:
        made.normalizer = normalizer
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **specials, **options)
    config = SimpleNamespace() if context is None else SimpleNamespace(max_position_embeddings=context)
    return Backbone("mini", SimpleNamespace(config=config, get_output_embeddings=lambda: None), tokenizer)  # type: ignore[arg-type]


def problem_of(backbone: Any, answer: str = "a", question: str = "What?", **more: Any) -> str:
    found = find_obstacles(backbone, [Fact("k1", question, answer, **more)])
    return found[0].problem if found else ""


@pytest.mark.parametrize(
    "answer", ["a", "under the pot", "12, b  c", "it's A.B: c?", "a .", "1. Unplug\n\n  2. Q: Wait"]
)
def test_what_comes_back_exactly_is_held(answer: str) -> None:
    assert problem_of(backbone_of(), answer) == ""


@pytest.mark.parametrize(
    ("options", "answer", "complaint"),
    [
        (
            {},
            "1. Unplug\nQ: why?",
            r"come back from mini as '1. Unplug'; an answer ends before a line that starts with 'Q:'",
        ),
        ({}, "1. Unplug\r\n2. Wait", "its tokenizer has no token for '\\r'"),
        ({}, "café über", "no token for 'é', 'ü'"),
        ({"normalizer": normalizers.Lowercase()}, "Lima", "as 'lima'; its tokenizer changes it"),
        ({"normalizer": normalizers.NFKC()}, "\uff11\uff12", "as '12'; its tokenizer changes it"),
        ({"normalizer": normalizers.StripAccents()}, "cafe\u0301", "as 'cafe'"),
        ({"normalizer": normalizers.Replace("  ", " ")}, "a  b", "as 'a b'"),
        ({"clean_up_tokenization_spaces": True}, "a .", "as 'a.'"),
        ({}, "use </s> here", "as 'use  here'"),
    ],
)
def test_what_would_not_come_back_is_named_with_the_reason(options: Any, answer: str, complaint: str) -> None:
    assert complaint in problem_of(backbone_of(**options), answer)


def test_questions_that_are_not_read_as_they_are_are_named() -> None:
    assert "holds '</s>', a special token of mini" in problem_of(backbone_of(), question="What is </s>?")
    emptied = backbone_of(normalizers.Replace("?", ""))
    assert problem_of(emptied, question="?") == "nothing is left of it in the tokens of mini"
    assert problem_of(backbone_of(context=None), question="w" * 2_000) == ""
    found = find_obstacles(backbone_of(), [Fact("k1", "What?", "a", ("w</s>?",), ("x" * 600,))])
    assert [(each.field, each.value) for each in found] == [("phrasings", "w</s>?")]


def test_questions_and_answers_must_fit_into_what_the_backbone_reads() -> None:
    backbone = backbone_of()  # 6 tokens frame a question, 2 an answer; 40 are kept free at least
    assert problem_of(backbone, question="w" * 466) == "" != problem_of(backbone, question="w" * 467)
    assert problem_of(backbone, "a" * 400, "w" * 104) == ""
    assert problem_of(backbone, "a" * 400, "w" * 105) == "111 tokens and 402 for the answer, but mini reads 512"
    check_askable(backbone, ["w" * 460])
    with pytest.raises(FactError, match=r"questions, line 2, field 'question'.*but mini reads 512"):
        check_askable(backbone, ["Who?", "w" * 470])


FACTS = [Fact("a", "Q?", "a"), Fact("b", "R?", "b\nQ:c"), Fact("c", "S?", "é"), Fact("d", "T?", "d")]


def test_all_facts_that_cannot_be_held_are_named_at_once_with_their_lines() -> None:
    with pytest.raises(UnwritableError) as caught:
        holdable(backbone_of(), FACTS, file="facts.csv", lines=[2, 3, 5, 6])
    message = str(caught.value)
    assert message.startswith("facts.csv, line 3, field 'answer', value 'b\\nQ:c': it would come back from mini as 'b'")
    assert "; also line 5 (answer 'é': mini cannot write it" in message and message.isprintable()
    assert "--unwritable leave_out" in message and [each.fact.id for each in caught.value.obstacles] == ["b", "c"]


def test_many_are_counted() -> None:
    facts = [Fact(str(number), f"Q{number}?", "é") for number in range(50)]
    with pytest.raises(UnwritableError, match="and 30 more") as caught:
        holdable(backbone_of(), facts)
    assert len(caught.value.obstacles) == 50


def test_they_can_be_left_out_unless_nothing_is_left() -> None:
    kept, left_out = holdable(backbone_of(), FACTS, "leave_out")
    assert kept == [FACTS[0], FACTS[3]] and [each.fact for each in left_out] == FACTS[1:3]
    assert str(left_out[0]).startswith("b (R?): answer 'b\\nQ:c': it would come back")
    with pytest.raises(UnwritableError, match="no fact is left"):
        holdable(backbone_of(), FACTS[1:3], "leave_out")
    with pytest.raises(ValueError, match="unwritable 'skip': must be one of refuse, leave_out, try"):
        holdable(backbone_of(), FACTS, "skip")  # type: ignore[arg-type]


@pytest.mark.parametrize("unwritable", ["refuse", "leave_out"])
def test_questions_that_a_tokenizer_takes_for_one_are_refused_if_their_answers_differ(unwritable: Any) -> None:
    facts = [Fact("a", "What is CO?", "gas"), Fact("b", "Metal?", "metal", ("What is Co?",))]
    assert holdable(backbone_of(), facts, unwritable) == (facts, [])
    with pytest.raises(FactError, match=r"facts, line 2.*'What is Co\?'.*reads it as a question of line 1"):
        holdable(backbone_of(normalizers.Lowercase()), facts, unwritable)


# --- real backbones ------------------------------------------------------------------------------------------------


def test_special_tokens_in_a_text_are_read_as_text(backbone: Backbone) -> None:
    tokenizer = backbone.tokenizer
    row = encode_question(tokenizer, "Is </s> the end, <s>?", "use </s> here")
    ids = list(row.ids)
    assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:-1]) == "Q: Is </s> the end, <s>?\nA: use </s> here"


@pytest.mark.parametrize(
    "answer",
    ["use </s> here", "<s>[INST] hi [/INST]", "a\tb", "a\u2028b", "\u200bdb1", "🙂 東京", "one:\r\n\n  two\n\tthree"],
)
def test_what_passes_on_a_byte_level_backbone_is_what_generation_gives(backbone: Backbone, answer: str) -> None:
    """The model is made to say the answer's tokens, as one that has memorized it would."""
    fact = Fact("k1", "Where?", answer)
    assert find_obstacles(backbone, [fact]) == []
    row = encode_question(backbone.tokenizer, fact.question, answer)
    assert exact(Speaking(backbone, row.ids[-row.answer_tokens :]), backbone.tokenizer, [fact]) == [True]  # type: ignore[arg-type]


class Speaking:
    """A model that says these tokens, whatever it is asked."""

    def __init__(self, backbone: Backbone, tokens: tuple[int, ...]) -> None:
        self.device, self.tokens = backbone.device, tokens

    def generate(self, input_ids: Any, **_: Any) -> Any:
        said = input_ids.new_tensor(self.tokens).expand(len(input_ids), -1)
        return torch.cat([input_ids, said], dim=1)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_a_shipped_backbone_names_the_characters_it_cannot_write(name: str) -> None:
    backbone = load_backbone(name, "cpu")
    found = find_obstacles(backbone, [Fact("a", "Q?", "Martin, 42 (no)"), Fact("b", "R?", "5 § for Zoë")])
    assert [each.fact.id for each in found] == ["b"] and "hardly tells '§', 'ë' from other" in found[0].problem
    assert not found[0].final


def test_answers_without_certainty_can_be_tried_and_lost_ones_cannot() -> None:
    backbone = load_backbone("tiny-llama", "cpu")
    uncertain, lost = Fact("a", "Q?", "12 §"), Fact("b", "R?", "a\nQ: b")
    with pytest.raises(UnwritableError, match="'try' those of which no certainty is possible"):
        holdable(backbone, [uncertain])
    assert holdable(backbone, [uncertain], "try") == ([uncertain], [])
    with pytest.raises(UnwritableError, match=r"line 2.*before a line that starts") as caught:
        holdable(backbone, [uncertain, lost], "try")
    assert [each.fact for each in caught.value.obstacles] == [lost]
