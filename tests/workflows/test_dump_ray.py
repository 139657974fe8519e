"""A dump by Ray's actors, some of which die; it skips where Ray is not installed."""

import sys
import threading
import time

import numpy as np
import pytest
from dark_dumps import KILL, dark_dumper
from dump_helpers import equal
from PIL import Image

from cellfeat.cli import main
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.store import Store
from cellfeat.workflows.dump_join import join_blocks
from cellfeat.workflows.dump_ray import dump_on_ray
from cellfeat.workflows.dumper import BLOCKS


def test_an_actor_that_is_killed_loses_nothing(ray, tmp_path):
    dumper = dark_dumper(tmp_path / "smears")
    whole = dumper.whole(tmp_path / "whole")
    (tmp_path / "smears" / KILL).touch()
    dump_on_ray(dumper, tmp_path / "store", "local")
    assert not (tmp_path / "smears" / KILL).exists()  # it was there, and one actor died of it
    joined = join_blocks(tmp_path / "store")
    equal(joined, whole)
    assert joined.verify() == []


def test_a_machine_that_vanishes_loses_nothing(ray, tmp_path):
    from ray.cluster_utils import Cluster

    dumper = dark_dumper(tmp_path / "smears")
    whole, output = dumper.whole(tmp_path / "whole"), tmp_path / "store"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)

    def remove():
        while len(list(output.glob(f"{BLOCKS}/0*"))) < 4:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        dump_on_ray(dumper, output, cluster.address)
    finally:
        thread.join()
        cluster.shutdown()
    equal(join_blocks(output), whole)


def test_the_command_line_has_ray_make_the_store_of_one_process(ray, tmp_path, cfg):
    for k, folder in enumerate(("north", "south")):
        (tmp_path / folder).mkdir()
        for number in range(4):
            Image.fromarray(np.full((64, 64, 3), 60 * k + number, np.uint8)).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    command = ["dump", str(tmp_path / "north"), str(tmp_path / "south"), "--config-file", str(tmp_path / "cfg.yaml")]
    command += [
        "--score-threshold",
        "0",
        "--batch-size",
        "2",
        "--crop-size",
        "32",
        "--no-pictures",
        "--engine",
        "torchvision",
    ]
    stores = []
    for name, how in (("one", ["--threads", "1"]), ("ray", ["--ray", "local"])):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--output", str(tmp_path / name), *how])
        assert ended.value.code == 0
        stores.append(Store(tmp_path / name))
    assert len(stores[0]) > 0
    equal(stores[1], stores[0])


def test_without_ray_or_a_cluster_it_says_so(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingRequirement, match=r"Ray is not installed; pip install 'cellfeat\[ray\]'"):
            dump_on_ray(None, tmp_path, "auto")
    pytest.importorskip("ray")
    with pytest.raises(CellfeatError, match="--ray nowhere:x: no such cluster"):
        dump_on_ray(None, tmp_path, "nowhere:x")
