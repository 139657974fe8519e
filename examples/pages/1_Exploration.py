"""Exploratory figures: classes, mean images and colours of each laboratory, and maps of the embeddings."""

import os
import tempfile
from pathlib import Path

import streamlit as st

from cellfeat.errors import CellfeatError
from cellfeat.reporting.explore import explore
from cellfeat.store import Store

TITLES = {"classes": "Cells of each class", "mean_images": "Mean images", "colours": "Colours within and around cells"}


@st.cache_data(show_spinner="Drawing")
def figures(folder: str, digest: str) -> dict[str, bytes]:
    """The figures of a store by name; `digest` makes another store another entry of the cache."""
    embeddings = sorted((Path(folder) / "embeddings").glob("*.h5"))
    with tempfile.TemporaryDirectory() as output:
        explore(Store(folder), embeddings, output)
        return {path.stem: path.read_bytes() for path in sorted(Path(output).glob("*.png"))}


st.title("Exploration")
folder = os.environ.get("CELLFEAT_STORE", "store")
try:
    drawn = figures(folder, Store(folder).digest)
except CellfeatError as error:
    st.error(f"{error} (CELLFEAT_STORE names the store)")
    st.stop()
for name, picture in drawn.items():
    st.subheader(TITLES.get(name, name.replace("_", " ")))
    st.image(picture)
