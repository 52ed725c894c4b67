"""What a run will do, and what a resumed one may change."""

import json

import pytest

from results.run_directory import RunError
from search import plan
from search.machine import Machine
from spaces.errors import SpaceError
from spaces.study import Resources, Study
from tests.search.small import PRESET, STEPS, edited, run_of, small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recorded run of the preset quick, that nobody changes."""
    return run_of(tmp_path_factory.mktemp("runs") / "a-run", small())


def resumed(run, *overrides):
    return plan.resumed(run.name, run.path.parent, list(overrides))


def refusal(run, *overrides):
    with pytest.raises(SpaceError) as caught:
        resumed(run, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_resumed_run_goes_on_as_it_was_recorded(run):
    job = resumed(run)
    assert job.resume
    assert (job.study, job.preset, job.changes, job.warm_start) == (small(), PRESET, (), None)
    assert job.budget == small().budget[PRESET]
    assert job.directory.path == run.path
    assert plan.resumed(str(run.path), run.path.parent, []).study == small()  # by path


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("search.learning_rate.high=1e-2", lambda study: study.search["learning_rate"].high == 1e-2),
        ("search.learning_rate.low=1e-6", lambda study: study.search["learning_rate"].low == 1e-6),
        (
            "search.lr_schedule.choices=[constant, cosine]",
            lambda study: study.search["lr_schedule"].choices == ("constant", "cosine"),
        ),
        ("budget.quick.trials=99", lambda study: study.budget["quick"].trials == 99),
        ("budget.quick.max_hours=1.5", lambda study: study.budget["quick"].max_hours == 1.5),
        ("budget.quick.target=0.02", lambda study: study.budget["quick"].target == 0.02),
        ("budget.quick.least_gain=0.05", lambda study: study.budget["quick"].least_gain == 0.05),
        ("budget.quick.finalists=0", lambda study: study.budget["quick"].finalists == 0),
        ("budget.quick.finalist_seeds=7", lambda study: study.budget["quick"].finalist_seeds == 7),
        ("resources.lanes=1", lambda study: study.resources.lanes == 1),
        ("resources={lanes: 1, workers_per_trial: 2}", lambda study: study.resources.workers_per_trial == 2),
    ],
)
def test_what_a_resumed_run_may_change(run, override, changed):
    record = run.record.read_bytes()
    job = resumed(run, override)
    assert changed(job.study)
    assert not changed(small())
    assert job.changes == (override,)
    assert job.budget == job.study.budget[PRESET]
    assert run.record.read_bytes() == record  # which the driver rewrites once the run goes on


def test_several_changes_come_together(run):
    changes = (
        "search.learning_rate.high=1e-2",
        "search.learning_rate.low=1e-3",
        "search.learning_rate.recommended=1e-3",
    )
    assert "may change" in refusal(run, *changes)  # the reference value is not to be drawn again
    changes = ("search.learning_rate.high=1e-2", "search.num_layers.high=8", "budget.quick.trials=40")
    job = resumed(run, *changes)
    assert job.study == edited(small(), learning_rate={"high": 1e-2}, num_layers={"high": 8}).model_copy(
        update={"budget": job.study.budget}
    )
    assert (job.budget.trials, job.changes) == (40, changes)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "sampler=random",
        "scheduler=none",
        "grid_points=5",
        "space=other",
        "data.rays=512",
        "data.lens=double_gauss_100mm",
        "objective.metric=val/prior_gap",
        "objective={metric: val/prior_psnr, mode: max}",
        "constraints=[{metric: val/kl, high: 3}]",
        "points_to_evaluate=[{num_layers: 3}]",
        "fixed.grad_clip=2.0",
        "search.learning_rate.log=false",
        "search.learning_rate.recommended=2e-4",
        "search.num_layers.step=2",
        "search.learning_rte.high=1e-2",
        "search.learning_rate.hihg=1e-2",
        "budget.quick.trails=40",
        "rubbish=1",
        "search.learning_rate={low: 1e-5, high: 1e-2, log: true, recommended: 1e-4, source: x}",
        "search.hidden_dim={low: 16, high: 32, recommended: 16, source: x}",
        "budget.quick.steps=3600",
        "budget.quick.grace_steps=400",
        "budget.quick.reduction_factor=2",
        "budget.quick.evaluate_every=100",
        "budget.standard.trials=40",
        "budget.quick={trials: 40, steps: 1800, grace_steps: 200, evaluate_every: 200}",
    ],
)
def test_what_would_make_another_run_of_it_is_refused(run, override):
    said = refusal(run, override)
    assert said.startswith(f"--set {override}: ")
    assert "budget.quick.{" in said  # what may change


@pytest.mark.parametrize("override", ["resources.compile=true", "resources.gpus_per_worker=0.5"])
def test_what_would_change_unfinished_trials_is_refused(run, override):
    assert "its unfinished trials would not go on as they began" in refusal(run, override)


def test_one_refused_change_refuses_them_all(run):
    assert refusal(run, "budget.quick.trials=40", "seed=1").startswith("--set seed=1: would make another run")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("search.learning_rate.high=1e-6", "`low <= high` must hold"),
        ("search.learning_rate.high=5e-5", "`low <= recommended <= high` must hold"),
        ("search.learning_rate.choices=[1e-4]", "`choices` excludes `low`, `high`, `log` and `step`"),
        ("search.lr_schedule.choices=[cosine]", "`recommended` must be one of ['cosine']"),
        ("search.lr_schedule.choices=[constant, linear]", "input should be 'constant', 'cosine', "),
        ("budget.quick.trials=0", "budget.quick.trials: input should be greater than 0, but got 0"),
        ("budget.quick.max_hours=0", "budget.quick.max_hours: input should be greater than 0, but got 0"),
        ("budget.quick.least_gain=1", "budget.quick.least_gain: input should be less than 1"),
    ],
)
def test_a_mistake_in_a_change_is_told_as_such(run, override, says):
    told = refusal(run, override)
    assert told.startswith(f"--set {override}: ")
    assert says in told


def test_a_lens_that_has_changed_makes_another_run(tmp_path):
    run = run_of(tmp_path / "a-run", small())
    record = json.loads(run.record.read_text())
    record["source"]["sha256"] = "0" * 64
    run.record.write_text(json.dumps(record))
    assert "changed since run a-run began; start a new run for the new lens" in refusal(run)


def test_an_unknown_and_a_damaged_run_are_named(tmp_path):
    run = run_of(tmp_path / "a-run", small())
    with pytest.raises(SpaceError, match="a-rnu: no such run; did you mean 'a-run'"):
        plan.resumed("a-rnu", tmp_path, [])
    run.record.write_text("{")
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        resumed(run)


# A new run


def new(tmp_path, study: Study, *overrides, **options):
    return plan.new(study, "mine", PRESET, list(overrides), "new", tmp_path, **options)


def test_a_new_run_may_learn_from_another(tmp_path):
    run_of(tmp_path / "earlier", small(sampler="random"), 3)
    job = new(tmp_path, small(), learn_from="earlier")
    assert job.warm_start is not None
    assert len(job.warm_start.trials) == 3
    assert new(tmp_path, small()).warm_start is None
    with pytest.raises(SpaceError, match="earler: no such run; did you mean 'earlier'"):
        new(tmp_path, small(), learn_from="earler")
    with pytest.raises(SpaceError, match="--warm-start earlier: goes with one objective and auto, tpe, gp"):
        new(tmp_path, small(sampler="grid"), learn_from="earlier")


def test_a_run_of_an_unknown_preset_or_of_another_s_budget_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="--preset quik: space mine has no such budget; did you mean 'quick'"):
        plan.new(small(), "mine", "quik", [], None, tmp_path)
    with pytest.raises(SpaceError, match="this run has the preset quick"):
        new(tmp_path, small(), "budget.full.trials=3")


@pytest.mark.parametrize(
    ("budgeted", "points", "wanted"),
    [(18, [], 18), (1000, [], 1 + 27), (1000, [{"num_layers": 5}], 2 + 27), (28, [], 28)],
)
def test_a_grid_ends_when_it_has_been_searched(tmp_path, budgeted, points, wanted):
    plain = small().budget[PRESET].model_dump()
    changes = {"points_to_evaluate": points, "budget": {PRESET: plain | {"trials": budgeted}}}
    assert new(tmp_path, small(sampler="grid", **changes)).budget.trials == wanted
    assert new(tmp_path, small(sampler="tpe", **changes)).budget.trials == budgeted


def test_a_finer_grid_takes_more(tmp_path):
    plain = small().budget[PRESET].model_dump()
    study = small(sampler="grid", grid_points=5, budget={PRESET: plain | {"trials": 1000}})
    assert new(tmp_path, study).budget.trials == 1 + 5 * 3 * 3  # there are but three numbers of layers


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "18 trials of up to 1800 steps, rungs [200, 600], one in 3 goes on"),
        ({"scheduler": "median"}, "18 trials of up to 1800 steps, stopped from step 200 on if worse than the median"),
        (
            {"scheduler": "median"},
            "work       3,600 to 32,400 optimizer steps and up to 18,000 of the finals on 2 lanes",
        ),
        ({"scheduler": "none"}, "18 trials of up to 1800 steps, none is stopped early"),
        ({"scheduler": "none"}, "work       32,400 optimizer steps and up to 18,000 of the finals on 2 lanes"),
    ],
)
def test_the_plan_says_what_early_stopping_does(tmp_path, changes, says):
    assert says in plan.describe(new(tmp_path, small(**changes)), plan.Shape(2, 2, 1, 1, 4))


@pytest.mark.parametrize(
    ("trials", "finalists", "seeds", "trainings"),
    [(18, 2, 2, 5), (18, 2, 5, 11), (18, 2, 1, 2), (18, 0, 2, 0), (2, 9, 2, 3), (1, 2, 2, 1)],
)
def test_the_reference_has_at_most_one_training_in_the_finals(trials, finalists, seeds, trainings):
    changes = {"trials": trials, "finalists": finalists, "finalist_seeds": seeds}
    assert plan.final_steps(small().budget[PRESET].model_copy(update=changes)) == trainings * STEPS


def test_the_plan_has_the_trials_of_a_small_grid(tmp_path):
    plain = small().budget[PRESET].model_dump()
    study = small("num_layers", sampler="grid", budget={PRESET: plain | {"trials": 1000}})
    assert "4 trials of up to 1800 steps" in plan.describe(new(tmp_path, study), None)


# The shape of a search


def shaped(**resources):
    return small().model_copy(update={"resources": Resources(**resources)})


@pytest.mark.parametrize(
    ("resources", "machine", "lanes", "cpus"),
    [
        ({}, (8, 0), 8, 1),
        ({"workers_per_trial": 2}, (8, 0), 4, 1),
        ({"cpus_per_worker": 4}, (8, 0), 2, 4),
        ({"lanes": 1}, (8, 0), 1, 8),  # the machine's CPUs divided evenly
        ({"lanes": 3}, (8, 0), 3, 2),
        ({"lanes": 2, "workers_per_trial": 2}, (8, 0), 2, 2),
        ({"lanes": 1, "cpus_per_worker": 1}, (8, 0), 1, 1),
        ({"lanes": 8}, (8, 0), 8, 1),
        ({"gpus_per_worker": 0.25}, (8, 1), 4, 1),
        ({"gpus_per_worker": 1, "workers_per_trial": 2}, (8, 4), 2, 1),
    ],
)
def test_lanes_and_threads_follow_from_the_machine(monkeypatch, resources, machine, lanes, cpus):
    monkeypatch.setattr(plan, "machine", lambda: Machine(*machine))
    shape = plan.fit_machine(shaped(**resources), trials=18)
    assert (shape.lanes, shape.cpus_per_worker) == (lanes, cpus)
    assert shape.most_lanes == lanes  # a machine does not grow
    assert plan.fit_machine(shaped(), trials=3).lanes == 3


@pytest.mark.parametrize(
    ("resources", "lanes", "most"), [({}, 6, 18), ({"lanes": 2}, 2, 2), ({"lanes": 1, "workers_per_trial": 3}, 1, 1)]
)
def test_lanes_of_a_cluster_may_become_more(resources, lanes, most):
    shape = plan.fit_cluster(shaped(**resources), 18, cpus=8, gpus=0)
    assert (shape.lanes, shape.most_lanes, shape.cpus_per_worker) == (lanes, most, 1)


def test_more_lanes_than_the_machine_has_cpus_are_refused(monkeypatch):
    monkeypatch.setattr(plan, "machine", lambda: Machine(8, 1))
    with pytest.raises(
        SpaceError, match="lanes=9 x workers_per_trial=1 x cpus_per_worker=1 asks for 9 CPUs, this mach"
    ):
        plan.fit_machine(shaped(lanes=9), 18)
    with pytest.raises(SpaceError, match=r"lanes=5 x workers_per_trial=1 x gpus_per_worker=0.25 asks for 1.25 GPUs"):
        plan.fit_machine(shaped(lanes=5, gpus_per_worker=0.25), 18)


@pytest.mark.parametrize(("gib", "resources", "lanes"), [(3, {}, 2), (3, {"workers_per_trial": 2}, 1), (99, {}, 8)])
def test_there_are_as_many_lanes_as_the_memory_holds(tmp_path, monkeypatch, gib, resources, lanes):
    monkeypatch.setattr(plan, "machine", lambda: Machine(8, 0, gib * 2**30))
    shape = plan.fit_machine(shaped(**resources), 18)
    assert shape.lanes == lanes
    assert (shape.note is None) == (gib == 99)
    if shape.note is not None:
        assert shape.note in plan.describe(new(tmp_path, small()), shape)


@pytest.mark.parametrize(("gib", "resources"), [(3, {"lanes": 3}), (2, {"workers_per_trial": 2}), (1, {})])
def test_lanes_that_do_not_fit_the_memory_are_refused(monkeypatch, gib, resources):
    monkeypatch.setattr(plan, "machine", lambda: Machine(8, 0, gib * 2**30))
    with pytest.raises(SpaceError, match=rf"resources: lanes=.* only {gib}.0 GiB of memory are free"):
        plan.fit_machine(shaped(**resources), 18)


@pytest.mark.parametrize(
    ("gpus", "each", "says"),
    [
        (1, 0, "has 1 GPU that the search does not use; --set resources.gpus_per_worker=0.25 puts four lanes on it"),
        (2, 0, "has 2 GPUs that the search does not use; --set resources.gpus_per_worker=0.25 puts four lanes on each"),
        (1, 0.5, None),
        (0, 0, None),
    ],
)
def test_gpus_that_are_left_alone_are_mentioned(monkeypatch, gpus, each, says):
    monkeypatch.setattr(plan, "machine", lambda: Machine(8, gpus))
    assert plan.unused_gpus(shaped(gpus_per_worker=each)) == (says and f"this machine {says}")


def test_the_plan_says_what_each_worker_gets(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "machine", lambda: Machine(8, 1))
    study = shaped(lanes=2, gpus_per_worker=0.25)
    said = plan.describe(new(tmp_path, study), plan.fit_machine(study, 18))
    assert "on 2 lanes of 1 worker on 4 CPUs and 0.25 GPU" in said
    assert "on the cluster's lanes of 1 worker on 1 CPU\n" in plan.describe(new(tmp_path, small()), None)


def test_without_a_compiler_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpaceError, match=r"resources.compile: torch.compile needs a C\+\+ compiler"):
        new(tmp_path, small(resources={"compile": True}))
