"""A picture of one's own: its cells, their classes, and where the network looks (Grad-CAM or attention)."""

import os

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

import cellfeat
from cellfeat.errors import CellfeatError

st.title("Predict")
file = st.file_uploader("A picture of a smear", ["png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp"])
if file is None:
    st.stop()
try:
    picture = Image.open(file, formats=["PNG", "JPEG", "TIFF", "BMP", "WEBP"]).convert("RGB")
    fitted, weights = os.environ.get("CELLFEAT_FITTED", ""), os.environ.get("CELLFEAT_WEIGHTS")
    with st.spinner("Looking for cells"):
        found = cellfeat.predict(np.asarray(picture), fitted, weights, domain=os.environ.get("CELLFEAT_DOMAIN"))
except (CellfeatError, OSError, Image.DecompressionBombError) as error:
    st.error(f"{error} (CELLFEAT_FITTED names the fitted network, CELLFEAT_WEIGHTS the detector)")
    st.stop()
pen = ImageDraw.Draw(picture)
for cell in found.table.itertuples():
    pen.rectangle((cell.x0, cell.y0, cell.x1, cell.y1), outline="#0072b2", width=max(2, picture.width // 300))
st.image(picture, f"{len(found.table)} cells")
st.dataframe(found.table[["predicted", "probability", "score"]])
for k in range(len(found.table)):
    crop, heat, chart = st.columns(3)
    crop.image(found.crops[k], f"cell {k + 1}: {found.table['predicted'].iloc[k]}", width=220)
    heat.image(found.overlay(k), "where the network looks", width=220)
    chart.bar_chart(dict(zip(found.classes, found.probabilities[k].tolist())), height=220)
