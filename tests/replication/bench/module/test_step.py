"""The training step of one module: everybody's is right, the f64 step is torch's, and a wrong one is refused."""

import pandas
import pytest
import torch
from transformers.optimization import Adafactor

from mome.replication.bench import traffic
from mome.replication.bench.module import contenders as module_contenders
from mome.replication.bench.module import rivals as module_rivals
from mome.replication.bench.module import step as module_step
from mome.replication.bench.module.contenders import Experts, Tables, checked
from mome.replication.bench.module.problem import BETAS, EPSILON, RATE, expected, make_problem
from mome.replication.bench.module.rivals import Embedding, Gathered, Lora
from mome.replication.bench.module.step import StepSizes, step_rows, with_ratios
from mome.replication.bench.timing import CheckError, Timer
from mome.replication.bench.traffic import ModuleSizes

CPU = torch.device("cpu")
SIZES = ModuleSizes(questions=3, tokens=5, experts=4, rank=2, d_in=24, d_out=17, item=4)
NAMES = [Experts.name, Gathered.name, "PEFT LoRA r=8, float32", Embedding.title(True), Embedding.title(False)]


@pytest.fixture
def timer() -> Timer:
    return Timer(CPU, rounds=3, seconds=0.0, copied=2**16)


def problem(base="frozen linear", dtype=torch.float32, **options):
    return make_problem(SIZES, 100, base, dtype, CPU, **options)


def make(kind, given, optimizer="adam"):
    if kind is Experts:
        return Experts(given, Tables(given), optimizer, "reference")
    return Gathered(given, Tables(given), optimizer)


def check(contender) -> None:
    checked("the contender", contender)(contender.step)


# --- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "adafactor"])
@pytest.mark.parametrize("base", ["frozen linear", "given"])
def test_the_step_in_f64_is_that_of_autograd_and_of_published_optimizers(base, optimizer):
    given = problem(base, torch.float64, repeated=True)
    rows = torch.nn.Parameter(given.rows.clone())
    x = given.x.clone().requires_grad_()
    place = torch.searchsorted(given.used, given.ids)
    a, b = given.slices(rows)
    added = torch.einsum("qk,qtd,qkrd,qkre->qte", given.w, x, a[place], b[place])
    output = (x @ given.weight.T if base == "frozen linear" else given.y) + added
    output.backward(given.gradient)
    step = torch.optim.Adam([rows], lr=RATE, betas=BETAS, eps=EPSILON)
    if optimizer == "adafactor":
        step = Adafactor([rows], lr=RATE, scale_parameter=False, relative_step=False, warmup_init=False)
    step.step()
    found = expected(given, optimizer)
    for value, right in (
        (found.output, output),
        (found.input_gradient, x.grad),
        (found.row_gradients, rows.grad),
        (found.change, rows.detach() - given.rows),
    ):
        torch.testing.assert_close(value, right, rtol=1e-5, atol=1e-9)


def test_lora_is_the_step_with_rows_that_all_questions_share():
    shared = problem().shared()
    down, up = shared.rows.split((24, 17), dim=1)
    output = shared.x @ shared.weight.T + shared.x @ down.T @ up
    torch.testing.assert_close(expected(shared, "adam").output.float(), output)


def test_all_selected_experts_differ_or_half_are_selected_twice():
    assert len(problem().used) == 12 and len(problem(repeated=True).used) == 6
    with pytest.raises(ValueError, match="12 different ones are selected, so there must be as many, got 11"):
        make_problem(SIZES, 11, "given", torch.float32, CPU)


# --- the contenders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", ["frozen linear", "given"])
def test_every_contender_takes_the_right_step(base, dtype):
    for repeated in (False, True):
        given = problem(base, dtype, repeated=repeated)
        for optimizer in ("adam", "adafactor"):
            check(make(Experts, given, optimizer))
            check(make(Gathered, given, optimizer))
        check(Embedding(given, sparse=True))
        check(Embedding(given, sparse=False))
        for of_adapters in {dtype, torch.float32}:
            check(Lora(given.shared(), of_adapters))


def test_a_step_after_others_starts_anew_for_the_check():
    for contender in (make(Experts, problem()), Lora(problem().shared(), torch.float32), Embedding(problem(), True)):
        contender.step()
        contender.step()
        check(contender)


def refuse(contender, what: str) -> None:
    with pytest.raises(CheckError, match=f"the contender: {what}: off by .* nothing was written"):
        check(contender)


def test_wrong_results_are_refused(monkeypatch):
    given = problem()
    contender, step = make(Experts, given), Experts.step
    monkeypatch.setattr(contender, "step", lambda: (step(contender), contender.output.mul_(1.001)))
    refuse(contender, "output")
    monkeypatch.setattr(contender, "step", lambda: (step(contender), contender.input_gradient[0].zero_()))
    refuse(contender, "gradient of the input")
    monkeypatch.setattr(contender, "step", lambda: (step(contender), contender.selected[0].zero_()))
    refuse(contender, "gradients of the rows")
    one = given.used[:1]
    monkeypatch.setattr(contender, "step", lambda: (step(contender), contender.tables.rows.index_fill_(0, one, 0)))
    refuse(contender, "change of the rows")


def test_an_update_left_out_or_in_another_order_is_refused(monkeypatch):
    contender, adam_ = make(Experts, problem()), module_contenders.adam_
    monkeypatch.setattr(module_contenders, "adam_", lambda *given, **settings: None)
    refuse(contender, "change of the rows")
    monkeypatch.setattr(module_contenders, "adam_", lambda *given, **settings: adam_(*given[:-1], None, **settings))
    refuse(contender, "change of the rows")


def test_a_rival_that_forgets_weights_or_repeats_is_refused(monkeypatch):
    contender = make(Gathered, problem(repeated=True))
    monkeypatch.setattr(contender, "_summed", lambda: (contender.block.grad, torch.ones(12, 1)))
    refuse(contender, "gradients of the rows")
    lora = Lora(problem().shared(), torch.float32)
    lora.adapted.scaling["default"] = 2.0
    refuse(lora, "output")


def test_experts_outside_the_step_keep_their_bits():
    given = problem()
    contender = make(Experts, given)
    others = torch.ones(100, dtype=torch.bool).index_fill_(0, given.used, False)
    contender.tables.rows[others] = 7.0
    contender.step()
    assert (contender.tables.rows[others] == 7.0).all() and (contender.tables.steps[others] == 0).all()


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    timer = Timer(CPU, rounds=3, seconds=0.0, copied=2**16)
    return pandas.DataFrame(step_rows(timer, StepSizes(SIZES, torch.float32, (64, 256)), "reference"))


def test_every_contender_has_a_row_for_each_number_of_experts(table):
    whole = table[table["base"] == "frozen linear"]
    assert whole.groupby("contender")["experts"].apply(set).to_dict() == {name: {64, 256} for name in NAMES}
    kernels = table[table["contender"] == Experts.name]
    assert len(kernels) == 2 * 2 * 2 and set(kernels["optimizer"]) == {"adam", "adafactor"}
    assert set(kernels["impl"]) == {"reference"} and set(table.loc[table["contender"] != Experts.name, "impl"]) == {""}
    assert (table["median_us"] > 0).all() and (table["copy_percent"] > 0).all() and (table["note"] == "").all()


def test_the_bytes_of_a_row_are_those_of_its_work(table):
    chosen = table.set_index(["contender", "optimizer", "base", "experts"])["bytes"]
    frozen = traffic.frozen_linear(SIZES)
    assert chosen[Experts.name, "adam", "given", 64] == traffic.expert_step(SIZES, "adam")
    assert chosen[Gathered.name, "adafactor", "given", 256] == traffic.expert_step(SIZES, "adafactor")
    assert chosen[NAMES[2], "adam", "frozen linear", 64] == traffic.lora_step(SIZES, 4) + frozen
    dense = traffic.table_step(SIZES, 256, dense=True)
    assert chosen[NAMES[4], "adam", "frozen linear", 256] == dense + frozen


def test_ratios_are_to_our_kernels_and_to_the_fewest_experts(table):
    same = {"optimizer": "adam", "base": "given", "mode": "eager", "cache": "warm"}
    times = {(Experts.name, 64): 2.0, (Experts.name, 256): 3.0, ("rival", 64): 8.0, ("rival", 256): 6.0}
    made = [{"contender": name, "experts": count, "median_us": time, **same} for (name, count), time in times.items()]
    unmeasured = {"contender": "rival", "experts": 512, **same, "note": "out of memory"}
    found = pandas.DataFrame(with_ratios([*made, unmeasured]))
    assert found["over_ours"].fillna(0).tolist() == [1.0, 1.0, 4.0, 2.0, 0]
    assert found["over_smallest"].fillna(0).tolist() == [1.0, 1.5, 1.0, 0.75, 0]
    ours = table[table["contender"] == Experts.name]
    assert (ours["over_ours"] == 1).all() and (ours.loc[ours["experts"] == 64, "over_smallest"] == 1).all()


def test_a_wrong_contender_ends_the_benchmark(timer, monkeypatch):
    monkeypatch.setattr(module_rivals, "RATE", 0.5 * RATE)
    with pytest.raises(CheckError, match=r"gather \+ bmm in torch, adam, rows selected twice: change of the rows"):
        step_rows(timer, StepSizes(SIZES, torch.float32, (64,)), "reference")


def test_what_does_not_fit_is_said_and_the_others_are_timed(timer, monkeypatch, capsys):
    monkeypatch.setattr(module_step, "FREE_SHARE", 0.0)

    def no_room(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(module_step, "Lora", type("Lora", (), {"title": Lora.title, "__new__": no_room}))
    rows = step_rows(timer, StepSizes(SIZES, torch.float32, (64,)), "reference")
    notes = {row["contender"]: row["note"] for row in rows if row["note"]}
    assert notes[NAMES[2]] == "out of memory"
    assert notes[NAMES[4]].startswith("needs 0.0 GiB") and notes[NAMES[3]] == notes[NAMES[4]]
    assert {row["contender"] for row in rows if not row["note"]} == set(NAMES[:2])
    assert "not measured, out of memory: PEFT LoRA" in capsys.readouterr().out


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_and_their_graphs_are_right_and_timed():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    timer = Timer(torch.device("cuda", 0), rounds=3, seconds=0.0, copied=2**20)
    sizes = ModuleSizes(questions=2, tokens=16, experts=8, d_in=128, d_out=192)
    table = pandas.DataFrame(step_rows(timer, StepSizes(sizes, torch.bfloat16, (64, 4096)), "triton"))
    ours = table[table["contender"] == Experts.name].groupby(["mode", "cache"]).size()
    assert ours.to_dict() == {(mode, cache): 8 for mode in ("eager", "graph") for cache in ("warm", "cold")}
    sparse = table[table["contender"] == Embedding.title(True)]
    assert set(sparse["mode"]) == {"eager"} and (table["note"] == "").all()
