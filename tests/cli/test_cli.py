import subprocess
import sys

import pytest

from cellfeat.cli import main
from cellfeat.core.files import write_json


def run(capsys, *arguments):
    """(exit status, standard output, standard error) of one command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_help_names_every_stage(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for command in (
        "demo",
        "run",
        "train-net",
        "dump",
        "inspect",
        "explore",
        "train-ae",
        "embed",
        "evaluate",
        "compare",
        "explain",
        "report",
        "datasets",
        "verify",
        "diff",
        "merge",
        "subset",
        "export",
        "import-aecfe",
    ):
        assert command in out


def test_nothing_heavy_is_imported_before_a_subcommand_runs():
    code = (
        "import sys, cellfeat.cli, cellfeat.store, cellfeat.autoencoder, cellfeat.evaluation, cellfeat.detection\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'pandas', 'sklearn', 'matplotlib', 'h5py', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.fixture
def store_of_a_newer_format(tmp_path):
    write_json(tmp_path / "new" / "manifest.json", {"format": "cellfeat-store", "version": "99.0", "shards": []})
    return tmp_path / "new"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["inspect", "no-store"], "no-store"),
        (["train-net", "--config-file", "none.yaml"], "none.yaml: no such config file"),
        (["train-net", "SOLVER.NO_SUCH_KEY", "1"], "SOLVER.NO_SUCH_KEY"),
        (
            ["train-net", "--engine", "torchvision", "MODEL.RPN.BOUNDARY_THRESH", "0", "MODEL.WEIGHTS", ""],
            "MODEL.RPN.BOUNDARY_THRESH",
        ),
        (["train-net", "--eval-only", "MODEL.WEIGHTS", "none.pth", "DATASETS.TEST", "('site-a',)"], "none.pth"),
        (["train-net", "MODEL.WEIGHTS", "", "--num-gpus", "4"], "--num-gpus 4"),
        (["dump", "--dataset", "nowhere", "--weights", "w.pth"], "nowhere"),
        (["dump", "--weights", "w.pth"], "--dataset"),
        (["dump", "--dataset", "site-a", "--pool", "res5", "--weights", "w.pth"], "pool"),
        (["dump", "--dataset", "site-a", "--weights", "none.pth"], "none.pth"),
        (["explore", "no-store"], "no-store"),
        (["train-ae", "no-store"], "no-store"),
        (["embed", "no-store", "--weights", "w"], "no-store"),
        (["evaluate", "no-store", "z.h5"], "no-store"),
        (["compare", "none.yaml"], "none.yaml: no such file"),
        (["explain", "no-store", "fit"], "no-store"),
        (["report", "no-store", "z.h5"], "no-store"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, data_root, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith("cellfeat: ")
    assert err.count("\n") == 1
    assert words in err
    assert "Traceback" not in err


def test_a_store_of_a_newer_format_says_what_to_do(capsys, store_of_a_newer_format):
    status, _, err = run(capsys, "inspect", str(store_of_a_newer_format))
    assert status == 2
    assert "99" in err


def test_debug_shows_the_traceback():
    with pytest.raises(Exception, match="no such file"):
        main(["run", "none.yaml", "--debug"])


def test_an_option_that_there_is_not_is_status_2(capsys):
    status, _, err = run(capsys, "inspect", "--no-such-option", "x")
    assert status == 2
    assert "--no-such-option" in err


def test_datasets_are_listed(capsys, data_root):
    status, out, _ = run(capsys, "datasets")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert " here" in lines["site-a"]
    assert " absent" in lines["pbc-barcelona"]


@pytest.mark.parametrize("tool", ["train_net", "dump_features", "inspect_store"])
def test_tools_are_the_subcommands(tool):
    from pathlib import Path

    script = Path(__file__).parents[2] / "tools" / f"{tool}.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "Usage: cellfeat" in done.stdout


def test_a_refusing_disk_is_one_line(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "summary.json")

    monkeypatch.setattr("cellfeat.data.catalogue.dataset_names", full)
    assert run(capsys, "datasets")[::2] == (
        2,
        "cellfeat: summary.json: No space left on device; mend that and run again\n",
    )
