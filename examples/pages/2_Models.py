"""The methods of a comparison and their scores."""

import os
from pathlib import Path

import pandas as pd
import streamlit as st

from cellfeat.methods import list_methods
from cellfeat.store import Store, read_predictions

st.title("Models and their scores")
folder = Path(os.environ.get("CELLFEAT_COMPARISON", "comparison"))
if not (folder / "leaderboard.csv").is_file():
    st.error(f"{folder}: no leaderboard.csv; run `cellfeat compare` (CELLFEAT_COMPARISON names its folder)")
    st.stop()
ranked = pd.read_csv(folder / "leaderboard.csv")
st.subheader("Leaderboard")
st.dataframe(ranked)
st.subheader("Trained on one laboratory, tested on another")
table = pd.read_csv(folder / "table.csv")
method = st.selectbox("Method", sorted(table["method"].unique()))
metric = st.selectbox("Score", sorted(table["metric"].unique()))
shown = table[(table["method"] == method) & (table["metric"] == metric)]
st.dataframe(shown.pivot_table("mean", ["classifier", "protocol", "train"], "test").round(3))
st.subheader("What the methods are")
st.dataframe([{"method": one.name, "what": one.title, "kind": one.kind} for one in list_methods()])
files = sorted(folder.glob("methods/*/**/predictions.h5"))
if files:
    st.subheader("Confusions of a fitted network")
    path = st.selectbox("Predictions", files, format_func=lambda path: str(path.relative_to(folder)))
    found, cells = read_predictions(path), Store(os.environ.get("CELLFEAT_STORE", "store")).table().set_index("cell_id")
    truth = cells.loc[found.cell_id, "label"].to_numpy()
    st.dataframe(pd.crosstab(pd.Series(truth, name="label"), pd.Series(found.labels, name="predicted")))
