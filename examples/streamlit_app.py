"""A store, the scores of methods on it, and a picture of one's own: an app of three pages in Streamlit.

    pip install 'cellfeat[app]'
    export CELLFEAT_STORE=store CELLFEAT_COMPARISON=comparison
    export CELLFEAT_FITTED=comparison/methods/resnext/seed-0/site-a/fit CELLFEAT_WEIGHTS=model_final.pth
    streamlit run examples/streamlit_app.py

The store is one of `cellfeat dump`, the comparison is the folder that `cellfeat compare` wrote, the fitted folder is of
mdd, resnext or finetune:<model>, and the weights are the detector's. Every page needs some of them and says which.
"""

import os

import streamlit as st

from cellfeat.errors import CellfeatError
from cellfeat.store import Store

st.set_page_config(page_title="cellfeat", layout="wide")
st.title("White blood cells, laboratory by laboratory")
st.write("Research software, not a medical device.")
try:
    store = Store(os.environ.get("CELLFEAT_STORE", "store"))
    table = store.table()
except CellfeatError as error:
    st.error(f"{error} (CELLFEAT_STORE names the store)")
    st.stop()

cells, sites, classes = st.columns(3)
cells.metric("cells", f"{len(table):,}")
sites.metric("laboratories", table["domain"].nunique())
classes.metric("classes", table.loc[table["label"] != "", "label"].nunique())
st.subheader("Cells by laboratory and class")
st.dataframe(table.groupby(["label", "domain"]).size().unstack(fill_value=0))
st.subheader("Images")
st.dataframe(store.detection_rate())
st.subheader("Some cells")
chosen = table.groupby(["domain", "label"]).head(2).index.to_numpy()[:24]
captions = [f"{domain}, {label or 'no label'}" for domain, label in table.loc[chosen, ["domain", "label"]].to_numpy()]
st.image(list(store.read("crops", chosen)), captions, width=110)
