"""Packaging of cellfeat; pyproject.toml holds the build system and the tools' settings only."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cellfeat" / "core" / "version.py").read_text())[1]

EXPORT = ["anndata>=0.11", "pyarrow>=14"]  # for `cellfeat export --to h5ad` and `--to parquet`
TIMM = ["timm>=1.0"]  # for the methods `timm:<model>` and `dinobloom`
EXPLAIN = ["grad-cam>=1.5"]  # for `cellfeat explain` on convolutional networks
SLIDES = ["openslide-bin>=4.0", "openslide-python>=1.4"]  # for whole slides
RAY = ["ray>=2.9"]  # for `cellfeat dump --ray`
DOCS = [*EXPORT, "furo>=2024.8", "myst-nb>=1.1", "scanpy>=1.10", "sphinx>=7.3"]  # the site; scanpy for a notebook
VIEW = ["fastapi>=0.110", "uvicorn>=0.29"]  # for `cellfeat view`
APP = [*EXPLAIN, "streamlit>=1.36"]  # for examples/streamlit_app.py
TEST = [*EXPORT, *EXPLAIN, *SLIDES, *TIMM, *VIEW, "httpx>=0.27", "hypothesis>=6.85", "mypy>=1.10", "playwright>=1.45"]
TEST += ["pycytominer>=1.2", "pytest>=9", "pytest-cov>=6", "pytest-xdist>=3.6", "ruff>=0.6"]
TEST += ["POT>=0.9.3", "skada>=0.3"]  # what alignment is compared with
TEST += ["tensorboard>=2.16", "tifffile>=2024.1"]  # what --log wrote is read; a small slide is written
TEST += ["scikit-image>=0.22", "torchmetrics>=1.4"]  # what SSIM is compared with

setup(
    name="cellfeat",
    version=VERSION,
    description="Comparable features of single white blood cells from blood-smear images of any laboratory",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["cellfeat", "cellfeat.*"]), "cellfeat.detectron_configs"],
    # The configs lie at the top, where users of Detectron2 look for them, and travel inside the package.
    package_dir={"cellfeat.detectron_configs": "detectron_configs"},
    package_data={
        "cellfeat": ["py.typed"],
        "cellfeat.data": ["datasets/*.yaml", "vocabularies/*.csv"],
        "cellfeat.detection": ["weights/*"],
        "cellfeat.detectron_configs": ["*.yaml"],
        "cellfeat.evaluation": ["published/*.csv"],
        "cellfeat.methods": ["weights/*"],
        "cellfeat.reporting": ["templates/*", "templates/sections/*"],
        "cellfeat.view": ["static/*", "static/vendor/*"],
    },
    install_requires=[
        "fsspec[http]>=2023.5",  # images by URL; s3fs, gcsfs and adlfs are the user's
        "fvcore>=0.1.5.post20221221",  # Detectron2's CfgNode and schedules
        "google-re2>=1.1.20240702",  # patterns out of dataset.yaml, in linear time
        "h5py>=3.15",  # older ones write the time into groups, so that equal stores had different digests
        "jinja2>=3.1",
        "lightning>=2.6",  # the autoencoder's training loop
        "matplotlib>=3.8",
        "numpy>=1.26",
        "opencv-python-headless>=4.9",
        "pandas>=2.1",
        "pillow>=10.3",
        "pooch>=1.8",  # downloads weights
        "pycocotools>=2.0.8",
        "pydantic>=2.6",
        "pyyaml>=6",
        "safetensors>=0.4",
        "scikit-image>=0.22",  # shapes and textures of measured cells
        "scikit-learn>=1.4",
        "torch>=2.4",
        "torchvision>=0.19",
        "threadpoolctl>=3.1",  # of scikit-learn
        "tqdm>=4.66",
        "typer>=0.29",  # its errors are `typer.TyperException`
        "umap-learn>=0.5.7",  # maps of embeddings
    ],
    extras_require={
        **{"app": APP, "docs": DOCS, "export": EXPORT, "explain": EXPLAIN, "ray": RAY, "slides": SLIDES},
        **{"test": TEST, "timm": TIMM, "view": VIEW},
    },
    entry_points={"console_scripts": ["cellfeat = cellfeat.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
)
