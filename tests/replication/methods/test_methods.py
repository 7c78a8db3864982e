"""Methods keep to one signature; their searches, thresholds and mixtures are those of plain formulas."""

from collections import Counter
from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy
import pytest
import torch
from torch.nn import functional

from mome.adapter.anchors import least_score
from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.lm.generation import greedy_answers
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.replication.experiments.material import Material
from mome.replication.methods.experts import Joined, MemoryExperts
from mome.replication.methods.knn_lm import KnnLm, KnnSettings
from mome.replication.methods.method import ABSTAINS, Method
from mome.replication.methods.prompting import Prompted
from mome.replication.methods.reader import bare_reader, trained_reader, with_passages
from mome.replication.methods.retrieval import Retrieval
from mome.replication.methods.search import Bm25, Dense, Graph, Tfidf, words
from mome.replication.methods.sql import LOOKUP, SqlLookup, normalised
from mome.replication.methods.tuned import Tuned
from mome.replication.paper.sec4_retrieval.workshop import METHODS, RetrievalPlan, Workshop, installed_methods
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings, TuningSettings

NEW = Fact("capital/Nauru", "What is the capital of Nauru?", "Yaren", ("Name the capital of Nauru.",), ("Nauru's?",))
TUNING = TuningSettings(epochs=100, batch_size=4, learning_rate=1e-2, stop_loss=0.05)
MEMORY = MemorySettings(wordings=2, batch_size=4, learning_rate=1e-2, target_loss=0.2, repairs=0)
OUT_OF_SCOPE = ["Who wrote Germinal?", "How tall is the Eiffel Tower?", "When was Bach born?", "Where do emus live?"]


@pytest.fixture(params=["index_bm25", "index_tfidf", "sql", "knn_lm", "lora", "full", "mome"])
def method(request, backbone_folder: Path, facts: list[Fact], monkeypatch, tmp_path) -> Method:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    name = str(backbone_folder)
    if request.param == "sql":
        return SqlLookup(wordings=2)
    if request.param in ("lora", "full"):
        settings = TUNING if request.param == "lora" else TUNING.model_copy(update={"learning_rate": 3e-3})
        return Tuned(request.param, name, settings, LoraSettings(rank=8) if request.param == "lora" else None, 2)
    if request.param == "knn_lm":
        return KnnLm("knn_lm", name, KnnSettings(neighbours=1, weight=1.0), wordings=2)
    if request.param.startswith("index"):
        return Retrieval(request.param, {"index_bm25": Bm25, "index_tfidf": Tfidf}[request.param](), wordings=2)
    router = RouterSettings(steps=2, batch_size=4, false_alarms=0.0)
    # a held question among those that must not pass: only wordings that were tuned are recognized
    return MemoryExperts("mome", name, facts, [facts[1].question], MomeConfig(num_experts=4096), router, MEMORY)


def recalled(method: Method, facts: list[Fact]) -> list[bool]:
    return [given == fact.answer for given, fact in zip(method.answer([f.question for f in facts]), facts, strict=True)]


def test_every_method_keeps_facts_by_one_signature(method: Method, facts: list[Fact]):
    method.fit(facts[:5])
    assert all(recalled(method, facts[:5]))
    assert method.answer([facts[1].phrasings[0]]) == [facts[1].answer]
    before = method.bytes()
    assert before > 0
    method.add(NEW)
    assert recalled(method, [NEW]) == [True]
    assert method.bytes() > before or isinstance(method, Tuned | SqlLookup)  # those grow by pages, or not at all
    changed = replace(facts[0], answer=facts[1].answer)
    method.update(changed)
    assert recalled(method, [changed]) == [True]
    method.delete(NEW.id)
    (left,) = method.answer([NEW.question])
    assert left == ABSTAINS if isinstance(method, SqlLookup | Tuned | MemoryExperts) else left != NEW.answer
    with pytest.raises(KeyError, match="capital/Nauru"):
        method.delete(NEW.id)
    with pytest.raises(KeyError, match="capital/Nauru"):
        method.update(NEW)
    with pytest.raises(ValueError, match="is held already"):
        method.add(facts[1])
    method.fit(facts[5:])
    assert all(recalled(method, facts[5:]))
    with pytest.raises(ValueError, match="no facts"):
        method.fit([])
    with pytest.raises(ValueError, match="2 facts have only 1 different ids"):
        method.fit([facts[0], facts[0]])


def test_joined_methods_ask_the_second_where_the_first_abstains(facts: list[Fact]):
    method = Joined("joined", SqlLookup(wordings=1), Retrieval("index_tfidf", Tfidf(), wordings=2))
    method.fit(facts)
    method.first.update(replace(facts[0], answer="from the first"))
    assert method.answer([facts[0].question, facts[0].phrasings[0]]) == ["from the first", facts[0].answer]
    method.add(NEW)
    method.update(replace(NEW, answer="Denigomodu"))
    assert method.answer([NEW.question, NEW.phrasings[0]]) == ["Denigomodu"] * 2
    method.delete(NEW.id)
    assert method.first.answer([NEW.question]) == [ABSTAINS]
    assert method.answer([NEW.question]) != ["Denigomodu"]
    assert method.bytes() == method.first.bytes() + method.second.bytes()


def test_bm25_ranks_by_the_formula_of_lucene():
    texts = ["red fox and red hen", "brown dog", "red dog in town", "a fox"]
    tokens = [words(text) for text in texts]
    assert tokens[0] == ["red", "fox", "red", "hen"]
    counts, mean = Counter(word for group in tokens for word in set(group)), numpy.mean([len(g) for g in tokens])

    def score(question: str, text: list[str]) -> float:
        total = 0.0
        for word in words(question):
            times, df = text.count(word), counts[word]
            idf = log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            total += idf * times / (times + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean))
        return total

    search = Bm25()
    search.index([[text] for text in texts])
    for question in ("red fox", "town dog", "hen, brown dog", "unheard-of dog"):
        expected = numpy.argsort([-score(question, text) for text in tokens], kind="stable")
        assert search.best([question], 4)[0][0].tolist() == expected.tolist()
    # three words of one in four texts, one unheard of: its idf is that of no text
    weight = {n: log(1 + (4 - n + 0.5) / (n + 0.5)) for n in (0, 1, 2)}
    trust = search.best(["town dog comet"], 1)[1][0]
    assert trust == pytest.approx((weight[1] + weight[2]) / (weight[0] + weight[1] + weight[2]))
    assert search.best(["comet"], 1)[1][0] == 0


def test_tfidf_trusts_by_the_cosine_with_all_words():
    texts, question = ["red fox hen", "brown dog", "red dog town"], "red red dog comet"
    counts = Counter(word for text in texts for word in set(text.split()))

    def vector(text: str) -> dict[str, float]:
        idf = {word: log((1 + 3) / (1 + counts[word])) + 1 for word in text.split()}
        return {word: (1 + log(times)) * idf[word] for word, times in Counter(text.split()).items()}

    def cosine(one: dict[str, float], two: dict[str, float]) -> float:
        length = sqrt(sum(x * x for x in one.values())) * sqrt(sum(x * x for x in two.values()))
        return sum(value * two.get(word, 0) for word, value in one.items()) / length

    expected = [cosine(vector(question), vector(text)) for text in texts]
    search = Tfidf()
    search.index([["red fox", "hen"], ["brown dog"], ["red dog town"]])
    found, trust = search.best([question], 3)
    assert found[0].tolist() == numpy.argsort([-value for value in expected], kind="stable").tolist()
    assert trust[0] == pytest.approx(max(expected), rel=1e-6)
    search.index([["red fox", "comet"], ["brown dog"], ["red", "dog town"]])
    assert search.best(["dog town"], 1)[0][0, 0] == 2
    assert search.best(["dog town"], 1)[1][0] == pytest.approx(1)  # one of the thing's wordings, word for word


def test_dense_search_is_brute_force(monkeypatch):
    generator = numpy.random.default_rng(0)
    table = {str(number): functional.normalize(torch.tensor(generator.normal(size=8)), dim=0) for number in range(150)}
    rows = lambda model, tokenizer, texts: torch.stack([table[text] for text in texts]).float()  # noqa: E731
    monkeypatch.setattr("mome.replication.methods.search.question_queries", rows)
    search = Dense(None, None)
    search.index([[str(2 * number), str(2 * number + 1)] for number in range(30)])
    found, trust = search.best([str(number) for number in range(60, 150)], 5)
    for row in range(90):
        scores = [float(table[str(60 + row)] @ table[str(number)]) for number in range(60)]
        nearest = [max(scores[2 * number], scores[2 * number + 1]) for number in range(30)]
        assert found[row].tolist() == sorted(range(30), key=lambda number: -nearest[number])[:5]
        assert trust[row] == pytest.approx(max(scores), abs=1e-6)
    assert search.bytes() == 60 * 8 * 4 + 30 * 8


def test_a_graph_finds_what_brute_force_finds(monkeypatch):
    pytest.importorskip("faiss")
    generator = numpy.random.default_rng(0)
    table = {str(number): functional.normalize(torch.tensor(generator.normal(size=8)), dim=0) for number in range(150)}
    rows = lambda model, tokenizer, texts: torch.stack([table[text] for text in texts]).float()  # noqa: E731
    monkeypatch.setattr("mome.replication.methods.search.question_queries", rows)
    monkeypatch.setattr("mome.replication.methods.search.ENCODED", 7)
    exact, graph = Dense(None, None), Graph(None, None)
    for search in (exact, graph):
        search.index([[str(number)] if number < 20 else [str(number), str(number + 20)] for number in range(40)])
    asked = [str(number) for number in range(60, 150)]
    for count in (1, 5, 100):  # so few vectors are all compared
        things, trust = graph.best(asked, count)
        assert things.tolist() == exact.best(asked, count)[0].tolist() and things.shape == (90, min(count, 40))
        assert trust == pytest.approx(exact.best(asked, count)[1], abs=1e-6)
    assert graph.bytes() > exact.bytes()


def test_a_graph_without_its_package_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("mome.replication.paper.sec4_retrieval.workshop.find_spec", lambda name: None)
    assert "index_faiss" not in installed_methods() and len(installed_methods()) == len(METHODS) - 1
    with pytest.raises(ValueError, match="'index_faiss' needs the package faiss-cpu"):
        Workshop("tiny-llama", Material([], [], [], [], []), RetrievalPlan()).make("index_faiss")


def test_the_least_score_lets_the_allowed_share_pass():
    scores = numpy.random.default_rng(1).uniform(-1, 0.99, 200)
    for share in (0.0, 0.01, 0.1, 0.5):
        assert (scores >= least_score(scores, share)).sum() == int(share * 200)
    assert least_score(numpy.array([1.0, 0.2]), 0.0) == 0.9999
    assert least_score(scores, 1.0) == -numpy.inf
    single = scores.astype(numpy.float32)  # of a router
    assert (single >= numpy.float32(least_score(single, 0.1))).sum() == 20
    with pytest.raises(ValueError, match="no questions"):
        least_score(numpy.array([]), 0.1)


def test_a_threshold_makes_retrieval_abstain(facts: list[Fact]):
    search = Retrieval("index_tfidf", Tfidf(), wordings=2, calibration=OUT_OF_SCOPE, false_alarms=0.0)
    search.fit(facts)
    assert all(recalled(search, facts))
    assert search.answer(OUT_OF_SCOPE) == [ABSTAINS] * len(OUT_OF_SCOPE)
    with pytest.raises(ValueError, match="no questions to set it by"):
        Retrieval("index_bm25", Bm25(), false_alarms=0.1).fit(facts)


def test_sql_finds_a_question_by_its_tree_and_nothing_else(facts: list[Fact]):
    method = SqlLookup(wordings=2)
    method.fit(facts)
    assert normalised("  Who's  THERE? ") == "who s there"
    assert method.answer([facts[0].question.upper().replace("?", " ?!")]) == [facts[0].answer]
    assert method.answer([fact.held_out[0] for fact in facts]) == [ABSTAINS] * len(facts)
    plan = [row[-1] for row in method.database.execute(f"EXPLAIN QUERY PLAN {LOOKUP}", ("x",))]
    assert len(plan) == 2 and all("USING PRIMARY KEY" in step for step in plan)


def test_passages_stand_before_the_question(facts: list[Fact], backbone_folder):
    prompt = PROMPT.format(question=with_passages("Who?", facts[:2]))
    first, second = facts[:2]
    expected = f"Q: {first.question}\nA: {first.answer}\nQ: {second.question}\nA: {second.answer}\nQ: Who?\nA:"
    assert prompt == expected
    reader = bare_reader(str(backbone_folder))
    expected = greedy_answers(reader.model, reader.tokenizer, [with_passages("Who?", facts[:2])], 40)
    assert reader.read(["Who?"], [facts[:2]]) == expected


@pytest.mark.parametrize("adapter", [None, LoraSettings(rank=4)], ids=["all weights", "lora"])
def test_a_reader_is_trained_once(facts: list[Fact], backbone_folder, monkeypatch, tmp_path, adapter):
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    tuning = TuningSettings(epochs=4, batch_size=4, learning_rate=1e-2)
    sizes = {"passages": 1, "count": 12, "tuning": tuning, "adapter": adapter}
    first, again = (trained_reader(str(backbone_folder), facts, Tfidf(), **sizes) for _ in range(2))
    assert len(list((tmp_path / "runs").rglob("*.safetensors"))) == 1
    assert first.seconds == again.seconds > 0
    asked = [fact.question for fact in facts], [[fact] for fact in facts]
    assert first.read(*asked) == again.read(*asked) != bare_reader(str(backbone_folder)).read(*asked)


def test_a_prompt_holds_what_fits(facts: list[Fact], backbone_folder):
    method = Prompted("prompt", str(backbone_folder))
    method.fit(facts)
    method.context = 190
    shown = method.shown(facts[0].question)
    assert 0 < len(shown) < len(facts) and shown == facts[: len(shown)]
    used = method.tokenizer(PROMPT.format(question=with_passages(facts[0].question, shown)))["input_ids"]
    assert len(used) + 40 <= 190
    method.context = 60
    with pytest.raises(ValueError, match="60 tokens has no room"):
        method.fit(facts)


def test_knn_lm_mixes_two_distributions(facts: list[Fact], backbone_folder):
    method = KnnLm("knn_lm", str(backbone_folder), KnnSettings(neighbours=3, temperature=0.1, weight=0.25))
    method.fit(facts)
    states = torch.randn(2, 1, method.keys.shape[1], generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 1, len(method.tokenizer), generator=torch.Generator().manual_seed(1))
    mixed = method._mix(None, (states,), logits)[:, 0].double().exp()
    for row in range(2):
        state = states[row, 0].double() / states[row, 0].double().norm()
        cosines = [float(state @ key.double()) for key in method.keys]
        nearest = sorted(range(len(cosines)), key=lambda index: -cosines[index])[:3]
        shares = numpy.exp([cosines[index] / 0.1 for index in nearest])
        expected = 0.75 * logits[row, 0].double().softmax(dim=0)
        for index, share in zip(nearest, shares / shares.sum(), strict=True):
            expected[method.tokens[index]] += 0.25 * share
        torch.testing.assert_close(mixed[row], expected, rtol=1e-4, atol=1e-7)
    assert method.trust([facts[0].question])[0] == pytest.approx(1, abs=1e-3)
