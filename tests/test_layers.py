"""The architecture as a test: folders import one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# folder -> the folders of this project that it may import
LAYERS = {
    "spaces": {"spaces"},
    "deeplens_workers": {"spaces", "deeplens_workers"},
    "trainables": {"spaces", "deeplens_workers", "trainables"},
    "results": {"spaces", "results"},
    "search": {"spaces", "deeplens_workers", "trainables", "results", "search"},
}
# library -> where it may be imported
HOMES = {
    "deeplens": {"deeplens_workers/"},
    "optuna": {"search/", "results/"},
    "matplotlib": {
        "spaces/drawing.py",
        "results/plots.py",
        "results/sensitivity_plots.py",
        "trainables/tiles.py",
        "trainables/psf/figures/",
        "trainables/psf/lens_figures.py",
        "trainables/asbuilt/figures.py",
        "trainables/images/figures.py",
    },
    "wandb": {"search/tracking/wandb_backend.py"},
    "mlflow": {"search/tracking/mlflow_backend.py"},
    "jsonschema": {"search/clusters/schema.py"},
    "botocore": {"search/clusters/node_config.py", "search/storage/bucket.py"},
    "googleapiclient": {"search/clusters/node_config.py"},
    "kubernetes_validate": {"search/clusters/kuberay_schema.py"},
    "pickle": set(),
    "cloudpickle": set(),
}
# What a space file is checked with, and what the board's process unpickles: no torch.
LIGHT = ("trial.py", "system.py", "image_data.py", "task.py", "squared_error_trial.py")
FORBIDDEN = {"spaces": {"torch", "ray", "optuna"}, "results": {"torch", "ray"}}
MODULES = sorted(path.relative_to(ROOT) for folder in LAYERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path):
    folder = path.parts[0]
    tops = {name.split(".")[0] for name in imported(path)}
    assert tops & LAYERS.keys() <= LAYERS[folder], f"{path} imports upwards"
    assert not tops & FORBIDDEN.get(folder, set())
    assert not (path.name in LIGHT and "torch" in tops), f"{path} imports torch"
    for library, homes in HOMES.items():
        at_home = any(path.as_posix().startswith(home) for home in homes)
        assert library not in tops or at_home, f"{path} imports {library}"


@pytest.mark.slow
def test_an_installed_wheel_has_every_module_and_plans_a_search(tmp_path):
    """An editable install hides what a wheel lacks."""
    source, site = tmp_path / "source", tmp_path / "site"
    for folder in LAYERS:  # a copy: what an earlier build left would be packed again
        kept = shutil.ignore_patterns("__pycache__", "runs", "cache")
        shutil.copytree(ROOT / folder, source / folder, ignore=kept)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", site, source]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = [".".join(path.with_suffix("").parts) for path in MODULES if path != Path("search/run.py")]
    program = f"""
import importlib
from importlib.resources import files
from search.cli import main
for name in {modules!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(site)!r}), module.__file__
for name in ("section.html", "explorer.css", "network.js"):
    assert files("results.explorer").joinpath(name).is_file()
main(["run", "--space", "vae_mnist", "--dry-run"])
"""
    read = {".css", ".html", ".js", ".json", ".yaml", ".sbatch", ""}  # Dockerfile has no suffix
    files = [one for folder in LAYERS for one in (source / folder).rglob("*") if one.is_file() and one.suffix in read]
    data = [one.relative_to(source) for one in files]
    for path in data:
        assert (site / path).is_file(), f"{path} is not in the wheel"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "optimizer steps" in done.stdout


def test_no_file_reads_untrusted_pickles():
    """torch.load and numpy's object arrays unpickle: the one is called for weights only, the other not at all."""
    for path in MODULES:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                safely = any(ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords)
                assert called != "torch.load" or safely, f"{path}:{node.lineno}"
                assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords), f"{path}:{node.lineno}"
