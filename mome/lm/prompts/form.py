"""The form in which a backbone is asked: what stands around the user's words, and where its own answer ends.

A backbone with a chat template is asked by it, any other one as `Q: ... A:`. The form is kept with the tokenizer, so
that whoever has the tokenizer asks in the same form (`prompt_form`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from string import ascii_uppercase
from typing import Any

from transformers import PreTrainedTokenizerBase

from mome.files.hashing import text_sha256

QUESTION_ANSWER = "Q: {question}\nA:"
PLACE = "{question}"
CHOSEN, DEFAULT = "mome_prompt_form", "mome_default_form"  # attributes of a tokenizer
MARK = "@@mome-turn-{}@@"  # stands for the user's words while a template is rendered
# What templates ask for beside the messages: no date of today (Llama 3) and no thoughts before an answer (Qwen 3).
TEMPLATE_OPTIONS = {"date_string": "26 Jul 2024", "enable_thinking": False}

History = Sequence[tuple[str, str]]  # earlier turns: what the user said, what was answered


class PromptError(ValueError):
    """A prompt form that the backbone cannot be asked in; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PromptForm:
    """What stands around a question.

    Args:
        before, after: the text before and after the user's words.
        gap: the text between prompt and answer; it belongs to the answer's tokens.
        stops: an answer ends where one of these texts begins, as another question or answer follows; without any, it
            ends at the end token only.
        template: whether `before` and `after` are a chat template's, with the special tokens written out in them. If
            not, they are plain text, and the tokenizer adds the special tokens it always adds.
        whole: whether the router reads the whole prompt, or the user's words alone.
    """

    before: str
    after: str
    gap: str = " "
    stops: tuple[str, ...] = ()
    template: bool = False
    whole: bool = False

    @property
    def name(self) -> str:
        """The form as `--prompt` names it: qa, chat, or a text with {question} in it."""
        if self == QA:
            return "qa"
        return "chat" if self.template else f"{self.before}{PLACE}{self.after}"

    @property
    def label(self) -> str:
        """A short name by which a kept run knows the form; other texts have other labels."""
        return "qa" if self == QA else f"{'chat' if self.template else 'text'} {text_sha256(repr(self), 8)}"

    def as_json(self) -> dict[str, Any]:
        """The form as `from_json` takes it."""
        return {**asdict(self), "stops": list(self.stops)}

    @classmethod
    def from_json(cls, values: Any) -> PromptForm:
        """The form that `as_json` wrote.

        Raises:
            ValueError: the values are no form.
        """
        kinds = {"before": str, "after": str, "gap": str, "stops": list, "template": bool, "whole": bool}
        if not isinstance(values, dict) or values.keys() != kinds.keys():
            raise ValueError(f"not a prompt form: {values!r}")
        for name, kind in kinds.items():
            if not isinstance(values[name], kind):
                raise ValueError(f"prompt form: {name} must be {kind.__name__}, got {values[name]!r}")
        if not all(isinstance(text, str) and text for text in values["stops"]):
            raise ValueError(f"prompt form: stops must be texts, got {values['stops']!r}")
        return cls(**{**values, "stops": tuple(values["stops"])})

    def cut(self, text: str) -> str:
        """The text up to the first of `stops`."""
        return text[: min((place for place in map(text.find, self.stops) if place >= 0), default=None)]


# The router reads the whole prompt of this form, frame included: so the tiny backbones' results were measured. The tiny
# backbones go on with lines "Q:" and "A:", SmolLM2 with "B:", "C:" ...
STOPS = tuple(f"\n{letter}:" for letter in ascii_uppercase)
QA = PromptForm("Q: ", "\nA:", gap=" ", stops=STOPS, whole=True)


def prompt_form(tokenizer: PreTrainedTokenizerBase) -> PromptForm:
    """The form in which a tokenizer's backbone is asked: the one chosen for it, else the default one.

    Raises:
        PromptError: the default is a chat template that cannot be used.
    """
    chosen: PromptForm | None = vars(tokenizer).get(CHOSEN)
    if chosen is not None:
        return chosen
    template = tokenizer.chat_template
    known: tuple[Any, PromptForm] | None = vars(tokenizer).get(DEFAULT)
    if known is None or known[0] != template:
        known = vars(tokenizer)[DEFAULT] = (template, chosen_form(tokenizer))
    return known[1]


def choose_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | PromptForm | None) -> None:
    """From now on, ask the tokenizer's backbone in the form that `prompt` is or names (as `chosen_form`)."""
    form = prompt if isinstance(prompt, PromptForm) else chosen_form(tokenizer, prompt)
    vars(tokenizer)[CHOSEN] = form


def with_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | PromptForm) -> PreTrainedTokenizerBase:
    """A shallow copy of the tokenizer that asks in another form; it shares the vocabulary."""
    other = copy(tokenizer)
    choose_prompt(other, prompt)
    return other


def chosen_form(tokenizer: PreTrainedTokenizerBase, prompt: str | None = None) -> PromptForm:
    """The form that `prompt` names: "qa", "chat", a text with {question} in it; "auto" or None: chat, else qa.

    Raises:
        PromptError: the tokenizer has no chat template, or one without the user's words; the text has no {question},
            or several.
    """
    if prompt is None or prompt == "auto":
        prompt = "chat" if tokenizer.chat_template else "qa"
    if prompt == "qa":
        return QA
    if prompt == "chat":
        return chat_form(tokenizer)
    if prompt.count(PLACE) != 1:
        raise PromptError(f"prompt {prompt!r}: must be auto, qa, chat, or a text that holds {PLACE} once")
    before, _, after = prompt.partition(PLACE)
    # a space at the end goes to the answer, whose first word is then a word of the vocabulary
    inner = after.rstrip(" ")
    gap = "" if inner[-1:].isspace() else " "
    # how the line of the next question starts, and that of the next answer
    _, broken, heading = inner.rstrip().rpartition("\n")
    headings = before.strip().rpartition("\n")[2], heading.strip() if broken else ""
    form = PromptForm(before, inner, gap=gap, stops=tuple(f"\n{text}" for text in headings if text))
    return QA if (form.before, form.after) == (QA.before, QA.after) else form


def chat_form(tokenizer: PreTrainedTokenizerBase) -> PromptForm:
    """The tokenizer's chat template around one turn of the user.

    Raises:
        PromptError: there is no template, or it does not show the user's words once.
    """
    before, after = template_pieces(tokenizer, 0)
    return PromptForm(before, after, gap="", template=True)


def template_pieces(tokenizer: PreTrainedTokenizerBase, earlier: int) -> list[str]:
    """The 2 * `earlier` + 2 texts of the chat template around `earlier` turns and a last one of the user.

    They stand before, between and behind: what the user said, what was answered, ..., what the user says last.

    Raises:
        PromptError: there is no template, or it does not show each of these texts once, in this order.
    """
    if not tokenizer.chat_template:
        raise PromptError("prompt 'chat': the backbone has no chat template; use qa, or a text with {question}")
    roles = ["user", "assistant"] * earlier + ["user"]
    marks = [MARK.format(place) for place in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, **TEMPLATE_OPTIONS}
    try:
        text: Any = tokenizer.apply_chat_template(messages, **options)
    except Exception as error:  # a template is a program, which may raise anything
        raise PromptError(f"prompt 'chat': the chat template cannot be rendered ({error}); use qa") from error
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found or mark in text:
            raise PromptError("prompt 'chat': the chat template does not show each message once; use qa")
        pieces.append(piece)
    return [*pieces, text]
