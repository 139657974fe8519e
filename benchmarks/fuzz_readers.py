"""The readers that benchmarks/fuzz.py feeds: where their seed files come from, and how a file is read."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickletools
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cellfeat.core.array_stand_ins import Form, as_array
from cellfeat.core.files import read_json
from cellfeat.core.pickle_file import interpret
from cellfeat.core.pickle_wire import decode
from cellfeat.core.run_record import RunRecord
from cellfeat.core.yaml_text import read_yaml_file
from cellfeat.data.annotations.box_table import read_box_table
from cellfeat.data.annotations.coco import read_coco
from cellfeat.data.annotations.geojson import read_geojson
from cellfeat.data.annotations.labelme import read_labelme
from cellfeat.data.annotations.via import read_via
from cellfeat.data.annotations.voc import read_voc
from cellfeat.data.annotations.yolo import read_yolo
from cellfeat.data.images import read_rgb
from cellfeat.data.spec import load_spec
from cellfeat.data.split import read_split
from cellfeat.data.tables import read_table
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter, probe, read_embeddings, write_embeddings
from cellfeat.store.manifest import check_seal, read_manifest, write_manifest

CORPUS = Path(__file__).parents[1] / "tests"


@dataclass
class Reader:
    """A reader under test.

    Args:
        name: Short name.
        seeds: Gives sound files to start from.
        read: Reads a file's content: given a folder to write to, the content, and the case's number in its batch.
        split: Cuts a seed into the pieces that its format is made of.
        words: Pieces of the format, to be put anywhere.
        prepare: Called once a batch, with the folder and every content.
        batch: Cases of a child; 0: the usual number.
        share: How many cases it gets for each of those that are asked for; less than 1 where a case takes long.
        modules: What is imported before children are forked; PyTorch is not loaded for readers that need none.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, bytes, int], object]
    split: Callable[[bytes], list[bytes]] | None = None
    words: list[bytes] = field(default_factory=list)
    prepare: Callable[[Path, list[bytes]], object] | None = None
    batch: int = 0
    share: float = 1.0
    modules: tuple[str, ...] = ()


def corpus(folder: str, pattern: str = "*") -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted((CORPUS / folder).glob(pattern))]


class _Collector:
    """Keeps the arrays that a child would send."""

    def __init__(self) -> None:
        self.arrays: list = []

    def array(self, form: Form, data: bytes) -> int:
        self.arrays.append(as_array(form, data))
        return len(self.arrays) - 1


def read_pickle(_: Path, content: bytes, __: int) -> object:
    """A pickle or a checkpoint as the child of `cellfeat.core.pickle_file` reads it, and as the parent receives it."""
    collector = _Collector()
    return decode(interpret(io.BytesIO(content), len(content), 1 << 26, collector), collector.arrays)


def opcodes(content: bytes) -> list[bytes]:
    """A pickle cut at its opcodes; what does not belong to one is a piece."""
    starts = [0]
    while starts[-1] < len(content):
        try:
            found = [position for _, _, position in pickletools.genops(content[starts[-1] :])]
        except ValueError:
            break
        starts += [starts[-1] + position for position in found[1:]]
        starts.append(starts[-1] + 1)
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)])]


def pickles() -> list[bytes]:
    """Pickles of all kinds, inflated."""
    seeds = corpus("core/data/pickles")()
    return [gzip.decompress(seed) if seed.startswith(b"\x1f\x8b") else seed for seed in seeds]


def read_checkpoint(folder: Path, content: bytes, number: int) -> object:
    """A pickle as the part data.pkl of a checkpoint."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, size in enumerate((24, 4, 8, 8)):
            archive.writestr(f"archive/data/{key}", bytes(size))
    return read_pickle(folder, file.getvalue(), number)


def pickles_of_checkpoints() -> list[bytes]:
    with zipfile.ZipFile(CORPUS / "core/data/pickles/new.pth") as archive:
        return [archive.read("new/data.pkl")]


def tokens(content: bytes) -> list[bytes]:
    """A text cut into words, numbers, signs and white space."""
    return re.findall(rb"\w+|\s+|[^\w\s]", content)


def of_file(read: Callable[[Path], object], name: str) -> Callable[[Path, bytes, int], object]:
    """A reader of one file of that name."""

    def read_it(folder: Path, content: bytes, _: int) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return read_it


def read_spec(path: Path) -> object:
    return load_spec(path, "site")


def read_record(path: Path) -> object:
    return RunRecord(path.parent, {"seed": 0}, name=path.name).read()


def read_safetensors(path: Path) -> object:
    from cellfeat.core.tensors import load_tensors

    return load_tensors(path, "make it", "restore it")


def read_detector_config(path: Path) -> object:
    from cellfeat.detection.config import load_config

    return load_config(path)


def read_pipeline(path: Path) -> object:
    from cellfeat.workflows.pipeline_config import load_pipeline

    return load_pipeline(path)


def read_comparison(path: Path) -> object:
    from cellfeat.workflows.comparison_config import load_compare

    return load_compare(path)


def images() -> list[bytes]:
    """A small picture in each format that is read."""
    found = []
    picture = Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(16, 12, 3))
    forms = [("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {})]
    for form, options in forms:
        file = io.BytesIO()
        picture.save(file, form, **options)
        found.append(file.getvalue())
    return found


def embeddings() -> list[bytes]:
    """A file of embeddings."""
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), np.array(["a#0", "b#0", "ä#1"], object)
        said = {"method": "m", "config": "{}", "store_digest": "0" * 64}
        write_embeddings(folder / "z.h5", names, np.ones((3, 2), np.float32), said)
        return [(folder / "z.h5").read_bytes()]


def shards() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        write_shard(Path(name))
        return [next((Path(name) / "shards").glob("*.h5")).read_bytes()]


def write_shard(folder: Path) -> None:
    """A store of one small shard."""
    with StoreWriter(folder, (2, 1, 1), 2, {"made_by": "benchmarks/fuzz.py"}) as writer:
        for k in range(2):
            pixels, box = np.full((2, 2, 3), k, np.uint8), np.array([0, 0, 2, 2])
            cell = CellRow(np.full((2, 1, 1), k), pixels, pixels[..., 0], box, 0.5, "blast")
            writer.add(ImageResult(f"s/{k}.png", "s", "blast", 9, 9, cells=[cell]))


def prepare_shards(folder: Path, contents: list[bytes]) -> None:
    """A store around each shard, its digest put right, all looked at by one child."""
    write_shard(folder / "sound")
    manifest = read_manifest(folder / "sound")
    paths = []
    for number, content in enumerate(contents):
        store = folder / str(number)
        paths.append(store / manifest["shards"][0]["file"])
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        write_manifest(store, {**manifest, "shards": [{**manifest["shards"][0], "sha256": digest}]})
    probe.look_at(paths)


def read_shard(folder: Path, _: bytes, number: int) -> object:
    store = Store(folder / str(number))
    store.verify()
    return store.table(), store.images(), store.read("features", slice(None)), store.read("masks", slice(None))


def prepare_embeddings(folder: Path, contents: list[bytes]) -> None:
    for number, content in enumerate(contents):
        (folder / f"{number}.h5").write_bytes(content)
    probe.look_at([folder / f"{number}.h5" for number in range(len(contents))])


def read_manifest_file(folder: Path, content: bytes, _: int) -> object:
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    manifest = read_manifest(folder)
    check_seal(folder)
    return manifest


def manifests() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        write_shard(Path(name))
        return [(Path(name) / "manifest.json").read_bytes()]


SEEDS = "fuzz/seeds"
HEAVY = {
    "safetensors": ("cellfeat.core.tensors",),
    "detector-config": ("cellfeat.detection.config",),
    "pipeline": ("cellfeat.workflows.pipeline_config",),
    "comparison": ("cellfeat.workflows.comparison_config", "cellfeat.workflows.comparison"),
}
PLAIN = [
    b"null",
    b"NaN",
    b"1e999",
    b"-1",
    b"0",
    b"true",
    b"\xff",
    b"\0",
    b"9" * 400,
    b"{}",
    b"[]",
    b'""',
    b"\xef\xbb\xbf",
]
YAML = [
    *PLAIN,
    b"&a",
    b"*a",
    b"<<:",
    b"!!python/name:x",
    b"2020-01-01",
    b"- ",
    b"? ",
    b": ",
    b"|\n",
    b"---\n",
    b"[" * 50,
]


def _all() -> list[Reader]:
    opcode_words = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    found = [
        Reader("pickle", pickles, read_pickle, opcodes, opcode_words),
        Reader("checkpoint", pickles_of_checkpoints, read_checkpoint, opcodes),
        Reader("pickle-file", corpus("core/data/pickles"), read_pickle),
        Reader("image", images, of_file(read_rgb, "a.png")),
        Reader("manifest", manifests, read_manifest_file, tokens, PLAIN),
        Reader("shard", shards, read_shard, prepare=prepare_shards, batch=200, share=0.05),
        Reader(
            "embeddings",
            embeddings,
            lambda folder, _, number: read_embeddings(folder / f"{number}.h5"),
            prepare=prepare_embeddings,
            batch=500,
            share=0.2,
        ),
    ]
    texts: list[tuple[str, str, Callable[[Path], object]]] = [
        ("yaml", "yaml", read_yaml_file),
        ("dataset.yaml", "yaml", read_spec),
        ("detector-config", "yaml", read_detector_config),
        ("pipeline", "yaml", read_pipeline),
        ("comparison", "yaml", read_comparison),
        ("json", "json", read_json),
        ("record", "json", read_record),
        ("coco", "json", read_coco),
        ("geojson", "json", read_geojson),
        ("labelme", "json", read_labelme),
        ("via", "json", read_via),
        ("via-csv", "csv", read_via),
        ("voc", "xml", read_voc),
        ("yolo", "txt", lambda path: read_yolo(path, "a.png")),
        ("boxes", "csv", read_box_table),
        ("table", "csv", read_table),
        ("split", "csv", read_split),
        ("vocabulary", "csv", load_vocabulary),
        ("safetensors", "safetensors", read_safetensors),
    ]
    for name, suffix, read in texts:
        words = YAML if suffix == "yaml" else PLAIN
        seeds, read_it = corpus(f"{SEEDS}/{name}"), of_file(read, f"{name}.{suffix}")
        found.append(Reader(name, seeds, read_it, tokens, words, modules=HEAVY.get(name, ())))
    return found


READERS = {reader.name: reader for reader in _all()}
