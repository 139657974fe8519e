"""A store's images and cells as the image files have them: tiles put together to the fields that they were cut from."""

from __future__ import annotations

import pandas as pd


def whole_images(images: pd.DataFrame) -> pd.DataFrame:
    """`Store.images()` with one row a field in place of its tiles, without the columns of tiles.

    A field's width and height are those of what is stored of it, its cells the sum.
    """
    images = images.copy()
    tiled = images["tile_of"] != ""
    images["width"] += images["tile_x"]
    images["height"] += images["tile_y"]
    images.loc[tiled, "image_id"] = images.loc[tiled, "tile_of"]
    images = images.drop(columns=["tile_of", "tile_x", "tile_y"])
    if not tiled.any():
        return images
    how = dict.fromkeys(images.columns, "first") | {
        **{"width": "max", "height": "max", "cells": "sum"},
        "reason": "max",  # of a slide that is damaged further down
    }
    return images.groupby("image_id", sort=False, as_index=False).agg(how)[list(images.columns)]


def whole_table(table: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """`Store.table()` with `image_id` and boxes of the field in place of those of its tile."""
    table, images = table.copy(), images.set_index("image_id")
    if not (images["tile_of"] != "").any():
        return table
    tiles = images.loc[table["image_id"], ["tile_of", "tile_x", "tile_y"]].reset_index(drop=True)
    for column, offset in {"x0": "tile_x", "y0": "tile_y", "x1": "tile_x", "y1": "tile_y"}.items():
        table[column] += tiles[offset]
    table["image_id"] = tiles["tile_of"].where(tiles["tile_of"] != "", table["image_id"])
    return table
