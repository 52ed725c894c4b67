"""The documentation does what it says: its toy system runs, its scripts run, its links and paths lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread, imsave
from skimage.data import astronaut

from tests.trainables.psf.test_model import made
from trainables.exports import export
from trainables.psf.cvae import CVAE

ROOT = Path(__file__).parent.parent
PACKAGES = ("spaces", "deeplens_workers", "trainables", "results", "search")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A file's name in backquotes, and its text in a block below.
FILE = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOY = dict(FILE.findall((ROOT / "docs" / "add-a-model.md").read_text()))
TRAINING = """
import sys, tempfile
from pathlib import Path
from spaces.loading import load
from trainables.exports import export, load_model
from trainables.training.loop import train
from trainables.training.task import TrainingTask

study = load(sys.argv[1])
system, here = study.system, Path(tempfile.mkdtemp(dir="."))
preparation, learner = system.make_preparation(), system.make_learner()
sets = preparation.prepare(study.data, preparation.find(study.data), 0, here / "cache", 0).sets
data, values = learner.open(sets), {"learning_rate": 1e-2, "decoder_variance": 0.02}
task = TrainingTask(system.name, study.trial(values), 0, 800, (400, 800), str(here), study.objective.metric, "min", sets)
*_, last = train(task, learner, data)
assert last.metrics.keys() == system.metrics.keys() - {"test/nelbo"}, last.metrics.keys()
export(last.network, system.name, here / "model")
test, model = learner.open_test(sets), load_model(here / "model")
ours = learner.judge(model, test).errors["nelbo"].mean()
print(float(ours), float(learner.baselines(sets, test, model)["gaussian"].errors["nelbo"].mean()))
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the code, committed."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "runs", "cache")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "before")
    return tmp_path


def git(directory, *arguments):
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout


def run(directory, *command, path=None):
    """What a Python command prints, run in a directory; its packages, or those in `path`, come first."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or [str(directory)])},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def add_toy(directory, rename=lambda text: text):
    """Write the files of docs/add-a-model.md, as a reader would."""
    for name, text in TOY.items():
        path = directory / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rename(text))
        if path.suffix == ".py":
            (path.parent / "__init__.py").touch()


def in_a_folder_of_ones_own(text):
    return (
        text.replace("trainables.rings", "rings")
        .replace("trainables/rings", "rings")
        .replace("spaces/rings.yaml", "rings.yaml")
    )


def test_the_toy_is_small():
    assert [*TOY] == ["trainables/rings/system.py", "trainables/rings/learner.py", "spaces/rings.yaml"]
    code = [line for name, text in TOY.items() if name.endswith(".py") for line in text.splitlines() if line.strip()]
    assert len(code) < 100


def test_adding_the_toy_touches_one_folder_and_one_space(checkout):
    add_toy(checkout)
    git(checkout, "add", ".")
    changes = git(checkout, "diff", "--cached", "--name-status").split()
    assert set(changes[0::2]) == {"A"}  # added, nothing modified
    assert {name.rpartition("/")[0] for name in changes[1::2]} == {"trainables/rings", "spaces"}
    assert sum(name.startswith("spaces/") for name in changes[1::2]) == 1
    plan = run(checkout, "search/run.py", "--space", "rings", "--preset", "quick", "--dry-run")
    assert "12 trials of up to 1000 steps" in plan


def test_the_toy_beats_its_baseline_from_a_folder_of_ones_own(tmp_path):
    add_toy(tmp_path, in_a_folder_of_ones_own)
    path = [str(tmp_path), str(ROOT)]
    ours, gaussian = map(float, run(tmp_path, "-c", TRAINING, "rings.yaml", path=path).split())
    assert ours < gaussian - 0.2
    assert "12 trials" in run(
        tmp_path, ROOT / "search" / "run.py", "--space", "rings.yaml", "--preset", "quick", "--dry-run", path=path
    )


@pytest.mark.slow
def test_the_toy_is_searched_from_a_folder_of_ones_own(tmp_path):
    """Its tasks cross to Ray's workers, its metrics to the tables, its winner to an export."""
    add_toy(tmp_path, in_a_folder_of_ones_own)
    small = [part for key in ("trials=3", "steps=60", "grace_steps=20") for part in ("--set", f"budget.quick.{key}")]
    space = ["--space", "rings.yaml", "--preset", "quick", "--name", "ring", *small]
    path = [str(tmp_path), str(ROOT)]
    printed = run(tmp_path, ROOT / "search" / "run.py", *space, path=path)
    assert "one Gaussian" in printed
    (script,) = (
        text for text in SCRIPT.findall((ROOT / "docs" / "add-a-model.md").read_text()) if "load_model(" in text
    )
    run(tmp_path, "-c", script + "assert points.shape == (1000, 2)\n", path=path)


@pytest.mark.slow
def test_the_tutorial_goes_through(tmp_path):
    """Its commands, the search made smaller, then its script."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    (command,) = re.findall(r"^psf-search run (.*--name first)$", text, re.MULTILINE)
    sizes = ("budget.quick.steps=60", "budget.quick.grace_steps=20", "data.grid=[4, 4]", "data.test_points=6")
    small = [part for size in sizes for part in ("--set", size)]
    run(tmp_path, ROOT / "search" / "run.py", *command.split(), *small, path=[str(ROOT)])
    script, search = SCRIPT.findall(text)
    compile(search, "tutorial", "exec")
    printed = run(tmp_path, "-c", script, path=[str(ROOT)])
    assert "torch.Size([25, 3, 15, 15])" in printed
    assert (tmp_path / "field.png").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        linked = page if not name else (page.parent / name)
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    """Those in one of this project's folders; a run's own are made by it."""
    folders = "|".join((*PACKAGES, "tests", "benchmarks", "docs", "examples"))
    ours = re.findall(rf"[\s`(]((?:{folders})/[\w./*-]+\.(?:py|md|yaml|png|ipynb))", page.read_text())
    for name in {name for name in ours if not name.startswith("results/runs/")} - TOY.keys():
        assert [*ROOT.glob(name)], f"{page.name}: {name}"


def test_every_feature_of_the_documents_is_held_by_a_test_or_left_out_with_a_reason():
    """A row has what there is and a link to what holds it, or a reason; a named test is in its file."""
    page = (ROOT / "docs" / "features.md").read_text().split("## Commands of 004")[0]
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| .*$", page, re.MULTILINE)]
    features = [row for row in rows if row[0] != "document"]
    assert len(features) > 100
    for feature in features:
        what, here, held = feature
        if held == "-":
            assert here.startswith("Left out: "), what
            assert len(here.split()) > 6, what
            continue
        links = re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", held)
        assert links, what
        for name, target in links:
            assert name == Path(target).name or name.startswith("test_") or "#" in target, what
            if name.startswith("test_"):
                assert f"def {name}(" in (ROOT / "docs" / target).read_text(), f"{what}: {name}"


def test_the_glossary_is_in_alphabetical_order():
    """Within each section terms are in alphabetical order, and none is explained twice."""
    sections = (ROOT / "docs" / "glossary.md").read_text().split("\n## ")[1:]
    terms = [re.findall(r"^\| \*\*([^*]+)\*\*", section, re.MULTILINE) for section in sections]
    everything = [term for section in terms for term in section]
    assert len(everything) == len(set(everything)) > 30
    for section in terms:
        assert section == sorted(section, key=str.lower)


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_s_lines_render_a_photograph(tmp_path):
    model = made()
    assert isinstance(model.network, CVAE)
    export(
        model.network,
        "cvae_psf",
        tmp_path / "results/runs/NAME/model",
        {"optics": model.optics.model_dump(mode="json")},
    )
    photo = astronaut()
    imsave(tmp_path / "photo.png", photo)
    lines = SCRIPT.findall((ROOT / "README.md").read_text())[0]
    run(tmp_path, "-c", lines + "assert kernels.shape == (2, 3, 15, 15)\n", path=[str(ROOT)])
    seen = imread(tmp_path / "seen.png")
    assert seen.shape[:2] == photo.shape[:2]
    assert 1 < abs(255 * seen[..., :3] - photo).mean() < 30
