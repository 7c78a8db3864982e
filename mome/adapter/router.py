"""The router: cross attention from a question's tokens to the experts' keys (paper, section 7 and figure 4).

Learned attention pools a question's prompt tokens to one query, and the query picks the `top_k` experts with the most
similar keys. Two additions are ours. *Anchors* are the queries of memorized questions: a question close to an anchor
takes all of that question's experts. The *rejection threshold* `min_score` (null key): a question whose similarity to
every anchor is below it takes no expert, so the backbone answers as if nothing had been memorized. With `least_names`
an anchor whose names are not in the question is no anchor for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mome.adapter.anchors import Anchors, packed
from mome.adapter.config import MomeConfig
from mome.adapter.index import KINDS, POOL_STREAM, PROJECT_STREAM, normal_draws
from mome.adapter.selection import Routes
from mome.facts.names import WordSet, word_sets


class Router(nn.Module):
    """Prompt tokens -> query -> experts, as `config` says. All f32, whatever the backbone.

    `hidden` is the width of the tokens' states. The weights of the chosen experts are a softmax at `temperature` with
    a mean of `scale`, or all equal to `scale` if `temperature` is None.
    """

    fingerprint: Tensor
    mean: Tensor
    whiten: Tensor

    def __init__(self, config: MomeConfig, hidden: int) -> None:
        super().__init__()
        self.top_k, self.temperature, self.scale = config.top_k, config.temperature, config.scale
        self.min_score, self.snap = config.min_score, config.snap
        heads, key_size, seed = config.router_heads, config.key_size, config.seed
        self.pool = nn.Parameter(normal_draws(heads, hidden, seed, POOL_STREAM) / math.sqrt(hidden))
        self.project = nn.Parameter(
            normal_draws(key_size, heads * hidden, seed, PROJECT_STREAM) / math.sqrt(heads * hidden)
        )
        self.register_buffer("fingerprint", torch.zeros(32, dtype=torch.uint8))  # of the bank; see adapter_storage
        self.register_buffer("mean", torch.zeros(key_size))
        self.register_buffer("whiten", torch.eye(key_size))
        self.index = KINDS[config.index](config.num_experts, key_size, seed)
        self.anchors = Anchors(key_size, config.top_k, config.least_names)

    def forward(self, states: Tensor, prompt: Tensor, questions: Sequence[str] | None = None) -> Routes:
        """Experts of each question from the token states [Q, T, D] where `prompt` [Q, T] bool is set; as `route`."""
        return self.route(self.query(states, prompt), questions)

    def query(self, states: Tensor, prompt: Tensor) -> Tensor:
        """Unit queries [Q, key_size] f32, pooled over the tokens where `prompt` is set."""
        return self.pooled(normalized(states), prompt)

    def pooled(self, states: Tensor, prompt: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """As `query`, of states that are `normalized`, computed in `dtype`.

        In f64 neither padding nor other questions in the batch change the f32 result.
        """
        with torch.autocast(states.device.type, enabled=False):
            states = states.to(dtype)  # [Q, T, D]
            # [Q, T, heads]: for each head, weights over the prompt tokens that sum to 1
            attention = (states @ self.pool.to(dtype).T).masked_fill(~prompt[..., None], -math.inf).softmax(dim=1)
            pooled = torch.einsum("qth,qtd->qhd", attention, states).flatten(1)  # [Q, heads * D]
            return functional.normalize(pooled @ self.project.to(dtype).T, dim=1).float()  # [Q, key_size], length 1

    def route(self, queries: Tensor, questions: Sequence[str] | None = None) -> Routes:
        """Experts of each query [Q, key_size]: its anchor's, none (rejected), or those with the best keys.

        The texts of the `questions` are needed if names are checked (`least_names`).

        Raises:
            ValueError: queries of another width, or one that is not finite; texts that are needed and lack.
        """
        self._check(queries)
        scores, nearest = self.anchors.recognize(queries, questions)  # [Q], [Q]
        known = scores >= (-2.0 if self.min_score is None else self.min_score)  # [Q]; -2 is below every cosine
        if self.snap and len(self.anchors):
            snapped = known if self.min_score is not None else torch.ones_like(known)
            ids, weights = self.anchors.ids[nearest], self.anchors.weights[nearest]  # [Q, K] each
            if not snapped.all():  # rejected questions: ids by their keys, for the record; their weights become 0
                ids = torch.where(snapped[:, None], ids, self.select(queries)[0])
        else:
            ids, weights = self.select(queries)
        return Routes(ids, weights * known[:, None], scores)

    def _check(self, queries: Tensor) -> None:
        if queries.dim() != 2 or queries.shape[1] != len(self.mean):
            raise ValueError(f"queries: must be [Q, {len(self.mean)}], got {list(queries.shape)}")
        if not torch.isfinite(queries).all():
            wrong = int((~torch.isfinite(queries)).any(dim=1).nonzero()[0])
            raise ValueError(f"queries: that of question {wrong} is not finite: its states are NaN or too large")

    def by_keys(self, queries: Tensor) -> Routes:
        """Experts of each query by the keys alone, without anchors and rejection threshold; errors as `route`."""
        self._check(queries)
        return Routes(*self.select(queries), self.anchors.nearest(queries)[0])

    def select(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and weights [Q, K] of the experts whose keys are most similar to the queries; anchors play no part."""
        whitened = functional.normalize((queries - self.mean).double() @ self.whiten.double(), dim=1).float()
        ids = self.index.search(whitened.detach(), self.top_k)  # [Q, K]; the choice itself has no gradient
        if self.temperature is None:
            return ids, torch.full(ids.shape, self.scale, device=ids.device)
        weights = (self.index.scores(whitened, ids) / self.temperature).softmax(dim=1)  # [Q, K], each row sums to 1
        return ids, weights * (self.top_k * self.scale)  # so that their mean is `scale`

    @torch.no_grad()
    def anchors_for(
        self, queries: Tensor, owners: Tensor | None = None, questions: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Anchors for `queries` [M, key_size] as memorized questions, in this order, and then for their means.

        Queries of the same number in `owners` [M] (0, 1, ...; each occurs) are paraphrases of one question: they share
        the experts that their mean picks. Without `owners` each query is a question of its own. Names as in `Anchors`.
        The texts of the `questions` [M] are needed if names are checked.
        """
        self._check(queries)
        owners = torch.arange(len(queries), device=queries.device) if owners is None else owners
        if owners.shape != queries.shape[:1] or (len(owners) and int(owners.min()) < 0):
            raise ValueError(f"owners: must be {list(queries.shape[:1])} numbers from 0, got {owners.tolist()}")
        counts = owners.bincount()  # [F], paraphrases of each question
        means = queries.new_zeros(len(counts), queries.shape[1]).index_add_(0, owners, queries)  # [F, key_size]
        middle = (counts > 1).nonzero().view(-1)  # their mean is near paraphrases that nobody wrote down
        means[middle] = functional.normalize(means[middle], dim=1)  # a single query keeps its bits
        ids, weights = self.select(means)  # [F, K] each
        every = torch.cat([owners, middle])  # the question of each anchor: first the queries, then the means
        made = {"queries": torch.cat([queries.detach(), means[middle]]), "ids": ids[every], "weights": weights[every]}
        if self.anchors.least_names is not None:
            made["words"] = packed(_words_of(owners.tolist(), middle.tolist(), questions)).to(queries.device)
        return made

    @torch.no_grad()
    def anchor(
        self, queries: Tensor, owners: Tensor | None = None, questions: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add anchors for `queries` [M, key_size] to the present ones; returns their ids and weights [M, K].

        `owners` and `questions` as `anchors_for` takes them.
        """
        made = self.anchors_for(queries, owners, questions)
        self.anchors.add(made)
        return made["ids"][: len(queries)], made["weights"][: len(queries)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Router:
        """Follow the backbone to its device, but not to its dtype: rounded keys would be other keys."""

        def moved(value: Tensor) -> Tensor:
            changed = fn(value)
            return changed if changed.dtype == value.dtype else value.to(changed.device)

        super()._apply(moved, recurse)
        return self

    @torch.no_grad()
    def spread(self, queries: Tensor) -> None:
        """Whiten later selections by mean and covariance of `queries` [n, key_size], n > 1.

        Whitened queries are uncorrelated and equally spread, so that the experts are chosen about equally often.
        """
        self._check(queries)
        if len(queries) < 2:
            raise ValueError(f"spread: needs two queries or more, got {len(queries)}")
        self.mean.copy_(queries.mean(dim=0))
        values, vectors = torch.linalg.eigh(torch.cov(queries.T.double()))  # [key_size], [key_size, key_size]
        # directions with (almost) no variance carry noise: none is scaled more than sqrt(1000) times the strongest
        floor = values.max() * 1e-3
        self.whiten.copy_((vectors * values.clamp_min(floor).rsqrt()) @ vectors.T)  # covariance to the power -1/2


def _words_of(owners: list[int], middle: list[int], questions: Sequence[str] | None) -> list[WordSet]:
    """The words of each of the `questions`, the question of each in `owners`, and then those of the means `middle`."""
    if questions is None or len(questions) != len(owners):
        raise ValueError(f"least_names: the check of names needs the texts of the {len(owners)} questions")
    rows: dict[int, list[int]] = {}
    for row, owner in enumerate(owners):
        rows.setdefault(owner, []).append(row)
    found: list[WordSet] = [WordSet(frozenset())] * len(owners)
    for own in rows.values():
        for row, made in zip(own, word_sets([questions[row] for row in own]), strict=True):
            found[row] = made
    return [*found, *(found[rows[owner][0]] for owner in middle)]


def normalized(states: Tensor) -> Tensor:
    """Token states [..., D] as the router reads them: f32, each with mean 0 and variance 1. No weight takes part."""
    with torch.autocast(states.device.type, enabled=False):
        return functional.layer_norm(states.float(), states.shape[-1:])
