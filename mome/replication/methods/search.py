"""Search among texts (paper, sections 4 and 10): BM25, TF-IDF, dense vectors, each with a score for abstention.

A search ranks by its usual score. For abstention it also returns a trust in the best text, at most 1, on the same scale
for questions of any length. Words that no text has count in full: questions about unknown things have such words, which
plain BM25 and TF-IDF would ignore.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy
from bm25s.stopwords import STOPWORDS_EN
from sklearn.feature_extraction.text import TfidfVectorizer

from mome.adapter.queries import question_queries
from mome.replication.methods.bm25 import bm25s

WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(STOPWORDS_EN)
PART = 64  # questions scored at a time
ENCODED = 16_384  # texts encoded at a time
NEIGHBOURS, CANDIDATES = 32, 128  # of each vector in the graph; kept while searching it


class Search(Protocol):
    """Things that are found by their wordings; `index` takes the place of what was there before."""

    def index(self, wordings: Sequence[Sequence[str]]) -> None:
        """Take over the wordings of at least one thing."""

    def best(self, questions: Sequence[str], count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Numbers of the best things, best first, int [Q, min(count, things)], and the trust in the first f64 [Q]."""

    def bytes(self) -> int:
        """What the index takes beside the wordings."""


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits but stop words; single ones too: "Messier 5" is not "Messier 6"."""
    return [word for word in WORD.findall(text.lower()) if word not in STOP_WORDS]


class Bm25:
    """BM25 (Lucene's, by bm25s: k1 1.5, b 0.75) over `words`, not stemmed; a thing's wordings are one text.

    Trusted is the share of the question's words, weighted by idf, that this text has.
    """

    def index(self, wordings: Sequence[Sequence[str]]) -> None:
        tokens = [words(" ".join(group)) for group in wordings]
        self.sets = [frozenset(group) for group in tokens]
        self.counts = Counter(word for group in self.sets for word in group)
        self.engine = bm25s.BM25()
        self.engine.index(tokens, show_progress=False)

    def best(self, questions: Sequence[str], count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        tokens = [words(question) for question in questions]

        def scores(rows: slice) -> numpy.ndarray:
            return numpy.stack([self._scores(group) for group in tokens[rows]])

        found, _ = _highest(scores, len(questions), count)
        trust = [self._covered(group, self.sets[row[0]]) for group, row in zip(tokens, found, strict=True)]
        return found, numpy.array(trust)

    def bytes(self) -> int:
        scores = self.engine.scores
        vocabulary = sum(len(word.encode()) + 8 for word in self.counts)
        return vocabulary + sum(scores[name].nbytes for name in ("data", "indices", "indptr"))

    def _scores(self, asked: Sequence[str]) -> numpy.ndarray:
        """BM25 scores [texts] of a question; bm25s takes known words only."""
        known = [word for word in asked if word in self.counts]
        return self.engine.get_scores(known) if known else numpy.zeros(len(self.sets))

    def _covered(self, asked: Sequence[str], text: frozenset[str]) -> float:
        """The share of the question's words, by weight, that the text has."""
        weights = {word: self._weight(word) for word in dict.fromkeys(asked)}
        return sum(weights[word] for word in weights if word in text) / max(sum(weights.values()), 1e-12)

    def _weight(self, word: str) -> float:
        count = self.counts[word]
        return float(numpy.log(1 + (len(self.sets) - count + 0.5) / (count + 0.5)))


class Tfidf:
    """TF-IDF with cosine similarity (scikit-learn, smooth idf, logarithmic counts); a thing's wordings are one text.

    Trusted is the question's cosine with the nearest single wording of the best thing.
    """

    def index(self, wordings: Sequence[Sequence[str]]) -> None:
        self.wordings = wordings
        self.vectorizer = TfidfVectorizer(tokenizer=words, token_pattern=None, lowercase=False, sublinear_tf=True)
        self.matrix = self.vectorizer.fit_transform([" ".join(group) for group in wordings])

    def best(self, questions: Sequence[str], count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        vectors = self.vectorizer.transform(questions)
        found, _ = _highest(lambda rows: (vectors[rows] @ self.matrix.T).toarray(), len(questions), count)
        nearest = (
            (vector @ self.vectorizer.transform(self.wordings[number]).T).max()
            for vector, number in zip(vectors, found[:, 0].tolist(), strict=True)
        )
        shares = (self._known_share(question) for question in questions)
        return found, numpy.array([float(each) * share for each, share in zip(nearest, shares, strict=True)])

    def bytes(self) -> int:
        vocabulary = sum(len(word.encode()) + 8 for word in self.vectorizer.vocabulary_)
        matrix = self.matrix.data.nbytes + self.matrix.indices.nbytes + self.matrix.indptr.nbytes
        return vocabulary + matrix + self.vectorizer.idf_.nbytes

    def _known_share(self, question: str) -> float:
        """Length of the question's vector of known words over that of all words, which the cosine leaves out."""
        places, idf = self.vectorizer.vocabulary_, self.vectorizer.idf_
        strange = numpy.log(1 + self.matrix.shape[0]) + 1  # scikit-learn's smooth idf of a word in no text
        known = unknown = 0.0
        for word, times in Counter(words(question)).items():
            if word in places:
                known += ((1 + numpy.log(times)) * idf[places[word]]) ** 2
            else:
                unknown += ((1 + numpy.log(times)) * strange) ** 2
        return float(numpy.sqrt(known / max(known + unknown, 1e-12)))


class Dense:
    """Exact search by the cosine of the router's queries (f32), the encoder that memory experts are chosen by.

    Each wording has a vector; a thing is as near as its nearest wording, and trusted as far.
    `model` is a backbone with a trained router, so the encoder saw no question that is held or asked.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def index(self, wordings: Sequence[Sequence[str]]) -> None:
        self.starts = numpy.cumsum([0, *(len(group) for group in wordings[:-1])])
        self.vectors = self._encode([text for group in wordings for text in group])

    def best(self, questions: Sequence[str], count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        vectors = self._encode(questions)

        def nearest(rows: slice) -> numpy.ndarray:
            return numpy.maximum.reduceat(vectors[rows] @ self.vectors.T, self.starts, axis=1)

        return _highest(nearest, len(questions), count)

    def bytes(self) -> int:
        return int(self.vectors.nbytes + self.starts.nbytes)

    def _encode(self, texts: Sequence[str]) -> numpy.ndarray:
        """A vector for each text, some at a time: the states that they are pooled from take 4 D bytes a token."""
        parts = (texts[start : start + ENCODED] for start in range(0, len(texts), ENCODED))
        return numpy.concatenate([question_queries(self.model, self.tokenizer, part).cpu().numpy() for part in parts])


class Graph(Dense):
    """The vectors of `Dense`, searched along a graph (HNSW by faiss, arXiv 1603.09320): not exact, but sublinear.

    It needs the package faiss-cpu. The graph is built in one thread, so that it is the same each time.
    """

    def index(self, wordings: Sequence[Sequence[str]]) -> None:
        import faiss

        super().index(wordings)
        self.owners = numpy.repeat(numpy.arange(len(wordings)), [len(group) for group in wordings])
        self.most = max(len(group) for group in wordings)
        faiss.omp_set_num_threads(1)
        self.graph: Any = faiss.IndexHNSWFlat(self.vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self.graph.add(self.vectors)

    def best(self, questions: Sequence[str], count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        wanted = min(count, len(self.starts))
        rows = min(wanted * self.most, len(self.owners))  # among so many wordings are `wanted` things at least
        self.graph.hnsw.efSearch = max(CANDIDATES, rows)
        scores, found = self.graph.search(self._encode(questions), rows)
        if (found < 0).any():
            raise RuntimeError(f"the search graph gave fewer than {rows} neighbours: it is not connected")
        things = [list(dict.fromkeys(self.owners[row].tolist()))[:wanted] for row in found]
        return numpy.array(things), scores[:, 0].astype(numpy.float64)

    def bytes(self) -> int:
        import faiss

        return int(faiss.serialize_index(self.graph).nbytes + self.owners.nbytes)


def _highest(
    scores: Callable[[slice], numpy.ndarray], questions: int, count: int
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Columns of the `count` highest scores of each question, best first, and the highest score f64 [Q].

    `scores` gives a few rows of the table at a time, which would not fit in memory as a whole. Ties go to the lowest of
    the columns that were kept.
    """
    found, best = [], []
    for start in range(0, questions, PART):
        part = scores(slice(start, start + PART))
        wanted = min(count, part.shape[1])
        chosen = numpy.sort(numpy.argpartition(-part, wanted - 1, axis=1)[:, :wanted], axis=1)
        kept = numpy.take_along_axis(part, chosen, axis=1)
        order = numpy.argsort(-kept, axis=1, kind="stable")
        found.append(numpy.take_along_axis(chosen, order, axis=1))
        best.append(kept.max(axis=1).astype(numpy.float64))
    return numpy.concatenate(found), numpy.concatenate(best)
