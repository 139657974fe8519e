"""A dump in blocks is that of one process, however it was divided, interrupted and joined."""

import os
import pickle
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path

import faults
import numpy as np
import pytest
from dark_spots import DarkSpots, disc_field
from dump_helpers import CONFIG, equal, options
from PIL import Image

from cellfeat.cli import main
from cellfeat.core.files import read_json
from cellfeat.core.lock import FolderLock
from cellfeat.data.paths import open_paths
from cellfeat.detection.config import load_config
from cellfeat.errors import Busy, CellfeatError, DifferentInputs
from cellfeat.store import Store
from cellfeat.store.join import join_parts
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_blocks import dump_part, part_of
from cellfeat.workflows.dump_fields import DIAMETERS
from cellfeat.workflows.dump_join import JOINED, join_blocks
from cellfeat.workflows.dump_summary import SUMMARY
from cellfeat.workflows.dumper import BLOCK, BLOCKS, Dumper, block_folder, blocks_of

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are killed are forked")


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Two sites: eight pictures of one disc, the last one empty; and two fields without a known scale."""
    folder = tmp_path_factory.mktemp("smears")
    for name in ("north", "south"):
        (folder / name).mkdir()
    for k in range(8):
        picture = np.full((120, 120, 3), 255, np.uint8)
        picture[40 : 80 + k, 40 : 80 - k] = 20 + k
        Image.fromarray(picture).save(folder / "north" / f"{k}.png")
    (folder / "north/7.png").write_bytes(b"")
    for k in range(2):
        Image.fromarray(disc_field(k, count=20)[0]).save(folder / "south" / f"field-{k}.png")
    return folder


class Watched(DarkSpots):
    """Dark spots, and what happens after so many calls."""

    def __init__(self, after=10**9, then=None):
        super().__init__(short=224, seen=(25, 200))
        self.left, self.then = after, then

    def detect(self, images, um_per_px=None):
        self.left -= 1
        if self.left < 0:
            self.then()
        return super().detect(images, um_per_px)


@pytest.fixture
def dumper(smears, tmp_path, monkeypatch):
    """Makes a new `Dumper` of the sites, as each process has its own."""
    (tmp_path / "weights.pth").touch()
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(tmp_path / "weights.pth")])

    def make(detector=None, **values):
        detector = detector or Watched()
        monkeypatch.setattr("cellfeat.workflows.dumper.build_detector", lambda *args, **more: detector)
        sites = open_paths([str(smears / "north"), str(smears / "south")])
        return Dumper(cfg, sites, options(batch_size=2, **values))

    return make


@pytest.fixture
def whole(dumper, tmp_path):
    return dumper().whole(tmp_path / "whole")


def same(joined, whole):
    equal(joined, whole)
    assert joined.provenance == whole.provenance
    assert joined.verify() == []
    for name in (SUMMARY, DIAMETERS):
        assert read_json(joined.path / name) == read_json(whole.path / name)
    assert {entry.name for entry in joined.path.iterdir()} <= {"manifest.json", "shards", ".lock", SUMMARY, DIAMETERS}


@pytest.mark.parametrize("parts", [2, 9])
def test_parts_joined_are_the_dump_of_one_process(dumper, whole, tmp_path, parts):
    output = tmp_path / "store"
    assert len(dumper().blocks) == 5
    for k in range(parts, 0, -1):
        assert dump_part(dumper(), output, (k, parts)) == len(range(k - 1, 5, parts))
    same(join_blocks(output), whole)
    digest = Store(output).digest
    again = Watched()
    assert dumper(again).whole(output).digest == digest
    assert again.calls == 0
    assert join_blocks(output).digest == digest
    with pytest.raises(CellfeatError, match=r"store: is a whole store already"):
        dump_part(dumper(), output, (1, parts))


def test_blocks_are_whole_batches_of_up_to_a_thousand_images():
    assert blocks_of(3, 8) == [(0, 1), (1, 2), (2, 3)]
    assert blocks_of(10**6 // 8, 8)[-1] == (124_875, 125_000)
    assert len(blocks_of(10**6 // 8, 8)) == 1000
    assert blocks_of(130, 2000)[-1] == (129, 130)  # a batch is not cut
    assert [stop - start for start, stop in blocks_of(130, 8)] == [3] * 43 + [1]


def test_what_is_done_is_not_done_again(dumper, whole, tmp_path):
    output, first = tmp_path / "store", Watched()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dump_part(dumper(Watched(3, stop)), output, (1, 1))
    assert [folder.name for folder in sorted((output / BLOCKS).iterdir())] == ["00000", "00001", "00002"]
    dump_part(dumper(first), output, (1, 2))
    dump_part(dumper(second := Watched()), output, (2, 2))
    dump_part(dumper(nothing := Watched()), output, (1, 1))
    assert first.calls > second.calls > 0 == nothing.calls
    same(join_blocks(output), whole)


@forking
def test_a_block_whose_process_was_killed_is_made_by_another(dumper, whole, tmp_path):
    output = tmp_path / "store"
    kill = Watched(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert faults.ended(faults.child(lambda: dump_part(dumper(kill), output, (1, 1)))) == -signal.SIGKILL
    left = sorted(folder.name for folder in (output / BLOCKS).iterdir())
    assert [name.rpartition(".")[2] for name in left] == ["partial", "00000", "00001"]
    with pytest.raises(CellfeatError, match=r"of 5 blocks 3 are missing: 00002, 00003, 00004; .* with --part 1/1"):
        join_blocks(output)
    dump_part(dumper(), output, (1, 1))
    assert len(list((output / BLOCKS).glob(".*.partial"))) == 0
    same(join_blocks(output), whole)


def test_of_two_tries_of_a_block_one_counts(dumper, whole, tmp_path, monkeypatch):
    output, slow = tmp_path / "store", dumper()
    write, folder = Dumper._write, block_folder(output, 1)

    def overtaken(self, attempt, *rest):
        counts = write(self, attempt, *rest)
        monkeypatch.setattr(Dumper, "_write", write)
        dumper().block(*slow.blocks[1], folder)
        return counts

    monkeypatch.setattr(Dumper, "_write", overtaken)
    slow.block(*slow.blocks[1], folder)
    assert [entry.name for entry in (output / BLOCKS).iterdir() if entry.is_dir()] == ["00001"]
    dump_part(dumper(), output, (1, 1))
    same(join_blocks(output), whole)


def test_blocks_are_not_made_where_a_link_leads(dumper, tmp_path):
    for folder in ("store", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / BLOCKS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CellfeatError, match=r"\.blocks: is a link"):
        dump_part(dumper(), tmp_path / "store", (1, 1))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_missing_part_is_named(dumper, tmp_path):
    output = tmp_path / "store"
    with pytest.raises(CellfeatError, match="store: holds no blocks of a dump"):
        join_blocks(output)
    dump_part(dumper(), output, (1, 3))
    said = r"store: of 5 blocks 3 are missing: 00001, 00002, 00004; run again the same dump with --part 2/3, --part 3/3"
    with pytest.raises(CellfeatError, match=said):
        join_blocks(output)
    dump_part(dumper(), output, (3, 3))
    with pytest.raises(
        CellfeatError, match=r"2 are missing: 00001, 00004; run again the same dump with --part 2/3, or"
    ):
        join_blocks(output)
    record = block_folder(output, 0) / BLOCK
    content = record.read_text()
    without_note, other_part = content.replace('"note": {', '"x": {'), content.replace('"part": [', '"part": 3, "x": [')
    for wrong in ("{}", "[]", without_note, other_part):
        record.write_text(wrong)
        with pytest.raises(CellfeatError, match=r"block\.json: is not as .*; remove the folder of this block and run"):
            join_blocks(output)
    record.write_text(content)
    (output / BLOCKS / "00000 old").mkdir()
    with pytest.raises(CellfeatError, match=r"00000 old: is no block of a dump; move it elsewhere"):
        join_blocks(output)
    (output / BLOCKS / "00000 old").rmdir()
    dumper().block(1, 2, block_folder(output, 1))  # of no part
    with pytest.raises(CellfeatError, match=r"1 are missing: 00004; run the same dump again"):
        join_blocks(output)
    assert not (output / "manifest.json").exists()


def test_a_joined_store_that_lost_a_shard_is_not_joined_already(dumper, tmp_path):
    output = tmp_path / "store"
    dump_part(dumper(), output, (1, 1))
    lost = join_blocks(output).path / "shards" / "part-00001.h5"
    join_blocks(output)
    lost.unlink()
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: listed in manifest\.json but missing"):
        join_blocks(output)


@pytest.mark.parametrize("of", [10**12, 10**200, 2, 0, -5, '"5"'])
def test_a_forged_number_of_batches_is_refused(dumper, tmp_path, of):
    output = tmp_path / "store"
    dump_part(dumper(), output, (1, 1))
    records = sorted((output / BLOCKS).glob(f"*/{BLOCK}"))
    for record in records:
        content = record.read_text()
        assert '"of": 5,' in content
        record.write_text(content.replace('"of": 5,', f'"of": {of},'))
    with pytest.raises(CellfeatError, match=r"block\.json: is not as .*; remove the folder of this block and run"):
        join_blocks(output)
    assert sorted((output / BLOCKS).glob(f"*/{BLOCK}")) == records


@pytest.mark.parametrize(
    ("values", "said"), [({"score_threshold": 0.5}, r"dump\.score_threshold = 0\.5"), ({"limit": 7}, "images.north")]
)
def test_parts_of_different_settings_are_refused(dumper, tmp_path, values, said):
    output = tmp_path / "store"
    dump_part(dumper(), output, (1, 2))
    with pytest.raises(DifferentInputs, match=r"00000: was made with"):
        dump_part(dumper(**values), output, (1, 2))
    dump_part(dumper(**values), tmp_path / "other", (2, 2))
    with pytest.raises(DifferentInputs, match=rf"00001: was made with .*{said}|00001: was made with of = 4"):
        join_blocks(output, [tmp_path / "other"])
    assert not (output / "manifest.json").exists()
    assert sorted(folder.name for folder in (output / BLOCKS).glob("0*")) == ["00000", "00002", "00004"]


def test_blocks_of_another_disk_are_fetched(dumper, whole, tmp_path, monkeypatch):
    for k in (1, 2):
        dump_part(dumper(), tmp_path / f"disk-{k}", (k, 2))
    rename = Path.rename

    def no_rename(source, target):
        if source.suffix == ".h5" and "disk-2" in str(source):
            raise OSError(18, "Invalid cross-device link")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", no_rename)
    monkeypatch.delattr("os.link")
    same(join_blocks(tmp_path / "disk-1", [tmp_path / "disk-2"]), whole)
    assert not (tmp_path / "disk-2" / BLOCKS).exists()


@forking
@pytest.mark.parametrize("call", ["cellfeat.store.join.write_manifest", "shutil.rmtree"])
def test_a_join_that_was_killed_is_joined_again(dumper, whole, tmp_path, monkeypatch, call):
    output = tmp_path / "store"
    dump_part(dumper(), output, (1, 1))

    def job():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(call, lambda path, *rest, **more: path.exists() and os.kill(os.getpid(), signal.SIGKILL))
            join_blocks(output)

    assert faults.ended(faults.child(job)) == -signal.SIGKILL
    if (output / BLOCKS).exists():
        with FolderLock(output), pytest.raises(Busy):
            join_blocks(output)
    join_blocks(output)  # also where only its end was missing
    assert not (output / JOINED).exists()
    same(Store(output), whole)


def test_a_plain_dump_goes_on_with_blocks(dumper, whole, tmp_path, smears, monkeypatch):
    output, plain = tmp_path / "store", dumper()
    dump_part(plain, output, (1, 2))
    monkeypatch.setattr("cellfeat.workflows.dump.Dumper", lambda *args: plain)
    same(dump(None, [], output, None), whole)
    dump_part(dumper(), tmp_path / "other", (1, 1))
    with FolderLock(tmp_path / "other") as lock, monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: None)
        shutil.copytree(tmp_path / "other" / BLOCKS, tmp_path / "kept")
        join_parts(sorted(tmp_path.glob("other/.blocks/0*")), tmp_path / "other", lock)
    same(dump(None, [], tmp_path / "other", None), whole)  # its join was interrupted
    dumper().whole(tmp_path / "beside")  # by one process, while others made blocks
    shutil.copytree(tmp_path / "kept", tmp_path / "beside" / BLOCKS)
    same(dump(None, [], tmp_path / "beside", None), whole)
    assert not (tmp_path / "beside" / BLOCKS).exists()


def test_images_that_cannot_be_read_at_all_are_said(tmp_path, dumper, monkeypatch):
    broken = dumper()
    monkeypatch.setattr("cellfeat.workflows.dump_images._read", lambda record: "truncated")
    monkeypatch.setattr("cellfeat.workflows.dumper.find_fields", lambda *args: {})
    dump_part(broken, tmp_path / "store", (1, 1))
    with pytest.raises(CellfeatError, match="none of the 10 images can be read: 10 truncated"):
        join_blocks(tmp_path / "store")
    monkeypatch.undo()


def test_the_part_of_a_job():
    array = {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "10"}
    array |= {"SLURM_ARRAY_TASK_STEP": "2"}
    ranks = {"RANK": "1", "WORLD_SIZE": "4"}
    assert part_of("3/8", array) == (3, 8)
    assert part_of("auto", array) == (3, 3)
    assert part_of("auto", ranks) == (2, 4)
    assert part_of("auto", array | ranks) == (10, 12)
    assert part_of(
        "auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "7"}
    ) == (1, 1)
    for text in ("0/4", "5/4", "4", "a/b", "1/2/3", ""):
        with pytest.raises(CellfeatError, match=r"--part .*: is no part; give K/N"):
            part_of(text, {})
    with pytest.raises(CellfeatError, match="no task of a SLURM array and no process of torchrun"):
        part_of("auto", {"SLURM_PROCID": "1"})
    for wrong in (
        array | {"SLURM_ARRAY_TASK_ID": "13"},
        array | {"SLURM_ARRAY_TASK_ID": "16"},
        {"RANK": "4", "WORLD_SIZE": "4"},
    ):
        with pytest.raises(CellfeatError, match="no regular row"):
            part_of("auto", wrong)
    with pytest.raises(CellfeatError, match=r"RANK is 'x', no number; give --part K/N"):
        part_of("auto", {"RANK": "x"})


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def test_a_network_gives_the_same_numbers_in_parts(tmp_path, data_root, cfg, monkeypatch, capsys):
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    one = dump(cfg, data_root[:2], tmp_path / "one", options())
    given = ["dump", "--config-file", tmp_path / "cfg.yaml", "--dataset", "site-a", "--dataset", "site-b"]
    given += ["--output", tmp_path / "parts", "--score-threshold", 0, "--crop-size", 32, "--batch-size", 4]
    assert run(*given, "--part", "2/2") == 0
    assert run("join", tmp_path / "parts") == 2
    assert "run again the same dump with --part 1/2" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(*given, "--part", "auto") == 0
    assert "part 1/2 is done, 4 of 7 blocks" in capsys.readouterr().out
    assert run("join", tmp_path / "parts") == 0
    assert f"{len(one)} cells" in capsys.readouterr().out
    equal(Store(tmp_path / "parts"), one)
    assert one.provenance == Store(tmp_path / "parts").provenance
    assert run(*given, "--part", "1/2", "--ranks", 2) == 2
    assert "--part, --ranks and --ray each divide the dump" in capsys.readouterr().err


def test_a_dumper_goes_to_another_process_without_its_network(tmp_path, data_root, cfg):
    dumper = Dumper(cfg, data_root[:1], options())
    assert dumper.provenance["datasets"] == data_root[:1]
    other = pickle.loads(pickle.dumps(dumper))
    assert "detector" in vars(dumper)
    assert "detector" not in vars(other)
    for one in (dumper, other):
        one.block(1, 2, block_folder(tmp_path / str(one is other), 1))
    equal(*(Store(block_folder(tmp_path / name, 1)) for name in ("True", "False")))


@forking
def test_processes_share_the_blocks(dumper, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("cellfeat.core.processes.get_context", lambda name: get_context("fork"))
    monkeypatch.setattr("cellfeat.workflows.dump.Dumper", lambda *args: chosen)

    def fail():
        raise CellfeatError("the disk burns", "put it out")

    output, chosen = tmp_path / "store", dumper(Watched(2, fail))
    with pytest.raises(CellfeatError, match=r"^the disk burns; put it out$"):
        dump(None, [], output, None, ranks=2)
    chosen = dumper(Watched(2, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    with pytest.raises(CellfeatError, match=r"one of 2 processes was killed, perhaps for want of memory; run the same"):
        dump(None, [], output, None, ranks=2)
    chosen = dumper()
    same(dump(None, [], output, None, ranks=2), whole)
