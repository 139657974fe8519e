"""A dump by Ray's actors, some of which die; it skips where Ray is not installed."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from dark_dumps import KILL, dark_dumper
from dump_helpers import equal

from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.workflows.dump_join import join_blocks
from cellfeat.workflows.dump_ray import dump_on_ray
from cellfeat.workflows.dumper import BLOCKS


@pytest.fixture
def ray(monkeypatch):
    """Workers find what this process imports."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'cellfeat[ray]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if Path(path or ".").is_dir()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would not let them begin
    return module


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


def test_without_ray_or_a_cluster_it_says_so(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingRequirement, match=r"Ray is not installed; pip install 'cellfeat\[ray\]'"):
            dump_on_ray(None, tmp_path, "auto")
    pytest.importorskip("ray")
    with pytest.raises(CellfeatError, match="--ray nowhere:x: no such cluster"):
        dump_on_ray(None, tmp_path, "nowhere:x")
