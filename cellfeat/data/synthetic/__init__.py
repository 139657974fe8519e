"""Synthetic blood smears of three laboratories, for the demo and for tests: no download, no patient, exact masks.

    from cellfeat.data.synthetic import SITES, draw_cell_image, write_sites

`sites` says how a laboratory stains and photographs, `recipes` (with `nuclei` and `shapes`) what each class of white
cell looks like, `cells` draws one, `scene` lays a field of blood and photographs it, `write` makes dataset folders.
"""

from cellfeat.data.synthetic.scene import draw_cell_image, draw_field
from cellfeat.data.synthetic.sites import SITES, Site, random_site
from cellfeat.data.synthetic.write import write_sites

__all__ = ["SITES", "Site", "draw_cell_image", "draw_field", "random_site", "write_sites"]
