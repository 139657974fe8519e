import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from crop_stores import make_store

from cellfeat.cli.app import ALL, COMMANDS, main
from cellfeat.core.files import write_json
from cellfeat.detection.config import config_dir
from cellfeat.store import Store


def run(capsys, *arguments):
    """(exit status, standard output, standard error) of one command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_help_lists_every_command_by_its_group(capsys):
    status, out, _ = run(capsys, "-h")
    assert status == 0
    for title, commands in COMMANDS.items():
        for name in commands:
            assert f"\n  {name} " in out[out.index(f"{title}:") :]
    assert run(capsys)[1] == run(capsys, "--help")[1] == out


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help(capsys, name):
    status, out, _ = run(capsys, name, "-h")
    assert status == 0
    assert f"Usage: cellfeat {name}" in out


# What scripts of users may call, by version 0.1.0.
OPTIONS = {
    "demo": "from",
    "run": "from",
    "train-net": "config-file resume eval-only num-gpus num-machines machine-rank dist-url engine",
    "dump": "config-file weights dataset output pool select score-threshold feature-dtype precision batch-size limit "
    "ranks engine",
    "inspect": "montage",
    "explore": "embeddings output",
    "train-ae": "output anchor preset epochs batch-size lr beta beta-warmup-epochs kl-reduction image-fraction "
    "test-fraction precision seed",
    "embed": "weights output method split precision",
    "evaluate": "output split protocol runs classifier balanced",
    "explain": "output cell per-class split",
    "report": "output evaluation autoencoder detector",
    "verify": "repair",
    "diff": "tolerance",
    "merge": "output",
    "subset": "output domain label score",
    "export": "output to embeddings",
    "import-aecfe": "output images domain vocabulary",
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_options_of_released_versions_remain(capsys, name, options):
    _, out, _ = run(capsys, name, "-h")
    assert [option for option in options.split() if f"  --{option} " not in out] == []


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib, cellfeat.cli, cellfeat.store, cellfeat.autoencoder, cellfeat.evaluation\n"
        "import cellfeat.detection\n"
        "with contextlib.suppress(SystemExit): cellfeat.cli.main(['--help'])\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'pandas', 'sklearn', 'matplotlib', 'h5py', 'cv2', 'numpy',\n"
        "         'rich'}\n"
        "print(sorted((heavy | {'pydantic', 'yaml'}) & set(sys.modules)))\n"
        "for name in cellfeat.cli.app.ALL:\n"
        "    with contextlib.suppress(SystemExit): cellfeat.cli.main([name, '--help'])\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dump", "run the same command again: it continues"),
        ("train-net", "run the same command with --resume"),
        ("evaluate", "run it again"),
    ],
)
def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch, name, words):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setitem(ALL, name, replace(ALL[name], function=interrupted, settings=""))
    status, _, err = run(capsys, name)
    assert status == 130
    assert err == f"cellfeat: interrupted; {ALL[name].interrupted}\n"
    assert words in err


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


def test_signs_that_the_output_cannot_hold_are_escaped(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", shown)
    with pytest.raises(SystemExit) as stop:
        main(["schema", "pipeline"])
    shown.flush()
    assert not stop.value.code
    assert b"\\u2265 1" in shown.buffer.getvalue()


def test_debug_shows_the_traceback():
    with pytest.raises(Exception, match="no such file"):
        main(["run", "none.yaml", "--debug"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "--no-such-option", "x"], "--no-such-option; see cellfeat inspect -h"),
        (["inspect"], "Missing argument 'store'; see cellfeat inspect -h"),
        (["dump", "--pool", "res5"], "'res5' is not one of 'mask', 'box', 'box_head'; see cellfeat dump -h"),
        (
            ["train-ae", "s", "--epochs", "0"],
            "--epochs: Input should be greater than or equal to 1; see cellfeat train",
        ),
        (["train-ae", "s", "--epochs", "many"], "'--epochs'"),
        (["evaluate", "s", "z", "--protocol", "other"], "--protocol: Input should be 'paper'"),
        (["train-ent"], "train-ent: no such command; did you mean train-net?"),
        (["--no-such-option"], "No such option: --no-such-option"),
    ],
)
def test_a_faulty_option_is_one_line_and_status_2(capsys, arguments, words):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith("cellfeat: ")
    assert words in err
    assert err.count("\n") == 1


def test_datasets_are_listed(capsys, data_root):
    status, out, _ = run(capsys, "datasets")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert " here" in lines["site-a"]
    assert " absent" in lines["pbc-barcelona"]


def test_a_faulty_description_does_not_hide_the_other_datasets(capsys, tmp_path, monkeypatch):
    for name, text in (("bad", "no_such_key: 1"), ("good", "licence: CC0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.yaml").write_text(text)
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    status, out, _ = run(capsys, "datasets")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "no_such_key" in lines["bad"]
    assert " here" in lines["good"]


def test_the_configs_that_come_along_are_listed(capsys):
    _, out, _ = run(capsys, "configs")
    names = [line for line in out.splitlines() if not line.startswith(" ")]
    assert set(names) == {path.name for path in config_dir().iterdir()}


@pytest.mark.parametrize(
    ("name", "key"), [("pipeline", "score_threshold"), ("compare", "align"), ("dataset", "strict")]
)
def test_the_keys_of_files_are_listed(capsys, name, key):
    _, out, _ = run(capsys, "schema", name)
    lines = out.splitlines()
    at = next(k for k, line in enumerate(lines) if line.strip().startswith(f"{key}: "))
    assert lines[at + 1].strip().startswith("# ")
    assert key in json.dumps(json.loads(run(capsys, "schema", name, "--json")[1]))


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
        "cellfeat: summary.json: No space left on device; correct that and run again\n",
    )


def test_tables_as_json(capsys, tmp_path, data_root):
    path = make_store(tmp_path / "store", cells=4).path

    def printed(*arguments):
        return json.loads(run(capsys, *arguments, "--json")[1])

    states = {found["name"]: found["state"] for found in printed("datasets")["datasets"]}
    assert (states["site-a"], states["pbc-barcelona"]) == ("here", "absent")
    assert set(printed("configs")[0]) == {"name", "purpose"}
    [psd] = printed("methods", "--method", "psd")
    assert psd["kind"] == "embedding"
    assert psd["settings"]
    found = printed("inspect", str(path))
    assert (found["cells"], "provenance" in found) == (len(Store(path)), False)
    assert printed("inspect", str(path), "--provenance")["provenance"] == Store(path).provenance
    assert printed("verify", str(path)) == {"repaired": [], "problems": []}
    assert printed("diff", str(path), str(path))["changed"] == {}
    assert printed("check", "site-a")["images"] == 13
    assert printed("doctor")["engine"]["name"] in ("torchvision", "detectron2")


def test_inspect_fits_a_screen(capsys, tmp_path):
    path = make_store(tmp_path / "store", cells=4).path
    _, out, _ = run(capsys, "inspect", str(path))
    assert "Provenance" not in out
    assert "Provenance" in run(capsys, "inspect", str(path), "--provenance")[1]


def test_threads(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run(capsys, "--threads", "1", "configs")[0] == run(capsys, "configs", "--threads=1")[0] == 0
    for threads in ("no", "0", "9" * 20):
        status, _, err = run(capsys, "configs", "--threads", threads)
        assert (status, err) == (2, f"cellfeat: --threads {threads}: no number of threads; give 1 to 9999\n")


@pytest.mark.parametrize("command", ["dump", "train-net"])
def test_mistyped_options_are_no_paths_or_keys(capsys, command):
    status, _, err = run(capsys, command, "--otput", "x", "SOLVER.BASE_LR", "-1")
    assert (status, err) == (2, "cellfeat: No such option: --otput; -h lists the command's options\n")


@pytest.mark.parametrize(
    ("device", "visible"), [("cpu", ""), ("cuda", "3,7"), ("cuda:1", "7"), ("cuda:2", None), ("tpu", None)]
)
def test_device(capsys, monkeypatch, device, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    status, _, err = run(capsys, "configs", f"--device={device}")
    if visible is None:
        assert (status, err.startswith(f"cellfeat: --device {device}: ")) == (2, True)
    else:
        assert (status, os.environ["CUDA_VISIBLE_DEVICES"]) == (0, visible)


def test_help_names_the_environment_variables(capsys):
    out = run(capsys, "--help")[1]
    assert all(f"CELLFEAT_{name} " in out for name in ("DATASETS", "CACHE", "OFFLINE", "MIRROR"))


def test_every_key_of_the_files_is_described(capsys):
    for name in ("pipeline", "compare", "dataset"):
        schema = json.loads(run(capsys, "schema", name, "--json")[1])
        models = [schema, *schema["$defs"].values()]
        assert [key for one in models for key, value in one["properties"].items() if not value.get("description")] == []
        lines = run(capsys, "schema", name)[1].splitlines()
        assert [
            line for line in lines if not line.strip().startswith("#") and re.search("Annotated|Ellipsis", line)
        ] == []


def test_the_demo_ends_in_the_page_of_its_cells(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("cellfeat.workflows.demo.run_demo", lambda folder, start: folder / "run/report/report.html")
    (tmp_path / "run/embed").mkdir(parents=True)
    (tmp_path / "run/embed/aecfe.h5").touch()
    store, file = tmp_path / "run/dump/store", tmp_path / "run/embed/aecfe.h5"
    assert f"cellfeat view {store} --embeddings {file}\n" in run(capsys, "demo", str(tmp_path))[1]
    shown = []
    monkeypatch.setitem(vars(ALL["view"]), "function", lambda *given: shown.append(given))
    assert run(capsys, "demo", str(tmp_path), "--page")[0] == 0
    assert shown == [(store, [file])]
    monkeypatch.setattr("cellfeat.cli.workflows.find_spec", lambda module: None)
    assert "pip install 'cellfeat[view]'" in run(capsys, "demo", str(tmp_path), "--page")[1]


def test_completion(capsys, monkeypatch):
    for name, value in (("_CELLFEAT_COMPLETE", "complete_bash"), ("COMP_WORDS", "cellfeat ver"), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    assert run(capsys)[1].split() == ["verify"]
