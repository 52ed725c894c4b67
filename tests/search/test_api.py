"""Searches from Python: in a notebook, with what it gives afterwards, and that nothing is printed; the notebook in examples/."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results import open_run
from search import run_search
from search.cli import main
from spaces.drawing import FORMATS
from spaces.errors import SpaceError

ROOT = Path(__file__).parents[2]
SMALL = {
    "budget.quick.trials": 3,
    "budget.quick.steps": 20,
    "budget.quick.grace_steps": 5,
    "budget.quick.evaluate_every": 10,
    "budget.quick.finalists": 1,
    "budget.quick.finalist_seeds": 1,
    "search.base_width.choices": [16],
    "resources.lanes": 1,
    "sampler": "random",
}


NOTEBOOK = ROOT / "examples" / "latent_space.ipynb"
PICTURES = {"reconstructions", "posteriors", "samples", "interpolations", "traversals", "latents", "arithmetic"}


def execute(notebook, folder):
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.fixture(scope="module")
def note(tmp_path_factory):
    """What each cell of a notebook printed that searched VAEs of digits, and the run's directory."""
    root = tmp_path_factory.mktemp("notebook")
    cells = [
        "import signal, sys\nbefore = signal.getsignal(signal.SIGINT), sys.stdout",
        "from search import run_search\n"
        f"run = run_search('vae_mnist', preset='quick', overrides={SMALL!r}, name='note', out={str(root / 'runs')!r}, "
        f"cache={str(root / 'cache')!r})",
        "assert (signal.getsignal(signal.SIGINT), sys.stdout) == before",
        "frame = run.trials_dataframe()\n"
        "print(len(frame), set(frame.state) <= {'COMPLETE', 'PRUNED'}, frame.loc[0, 'params_network'])",
        "print(run.summary.best.number == run.best.number, run.model().config.px)",
    ]
    notebook = execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), folder=ROOT)
    printed = [
        "".join(output.text for output in cell.outputs if output.get("name") == "stdout") for cell in notebook.cells
    ]
    return printed, root / "runs" / "note"


@pytest.mark.slow
def test_a_notebook_searches_and_uses_the_winner(note):
    """The cells print only what they are asked to: the core is silent, and leaves signals and files alone."""
    printed, run = note
    assert printed == ["", "", "", "3 True conv\n", "True 28\n"]
    assert open_run(run).summary is not None


@pytest.mark.slow
def test_pictures_of_images_are_files_and_in_tensorboard_and_drawn_again(note, tmp_path, capsys):
    _, run = note
    assert {path.name for path in (run / "figures").iterdir()} == {
        f"{name}.{one}" for name in PICTURES | {"history", "progress", "comparison"} for one in FORMATS
    }
    assert set(EventAccumulator(str(run / "tensorboard" / "winner")).Reload().Tags()["images"]) == PICTURES
    with pytest.raises(SystemExit) as ended:
        main(["figures", str(run), "--only", "arithmetic", "--only", "samples", "--out", str(tmp_path)])
    assert ended.value.code == 0
    assert {path.stem for path in tmp_path.iterdir()} == {"arithmetic", "samples"}


@pytest.mark.slow
def test_the_walk_through_a_latent_space_draws_a_picture_at_each_step(note):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source == 'RUN = "../results/runs/digits"'
    code[0].source = f"RUN = {str(note[1])!r}"
    execute(notebook, folder=NOTEBOOK.parent)
    drawn = [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code]
    assert drawn == [0, 0, *[1] * (len(code) - 2)]


def test_the_notebook_is_kept_without_what_it_printed():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_images_are_compared_with_what_gives_no_likelihood_too(tmp_path):
    """A denoising autoencoder has no bits per dimension: it is in the table of the test set and not among the intervals."""
    run = run_search("vae_cifar10", preset="quick", overrides=SMALL, out=tmp_path / "runs", cache=tmp_path / "cache")
    assert run.summary is not None
    test, final = run.summary.test, run.summary.final
    assert set(final.baselines) == {"independent_pixels", "png", "webp", "ppca"}
    assert set(test["denoiser"]) == {"psnr", "ssim"}
    assert {"bpd", "psnr", "ssim"} <= set(test["ppca"])
    assert set(test["best"]) == {"bpd", "bpd_own", "psnr", "ssim"}
    assert "denoising autoencoder" in (run.directory.model / "card.md").read_text()


def test_bad_input_is_told_before_anything_starts(tmp_path):
    with pytest.raises(SpaceError, match="unknown hyperparameter of cvae_psf; did you mean 'kl_weight'"):
        run_search("cvae_psf", overrides={"search.kl_wait.high": 1e-2}, out=tmp_path)
    with pytest.raises(SpaceError, match="--preset quik: space cvae_psf has no such budget; did you mean 'quick'"):
        run_search("cvae_psf", preset="quik", out=tmp_path)
    assert list(tmp_path.iterdir()) == []
