// Everything about one cell: crop, place in its image, values, predictions, nearest neighbours.
import { el, svg } from "/static/dom.js";
import { change, json, said, state, store, values } from "/static/state.js";
import { crop, outlineButton, tiles } from "/static/gallery.js";

const WIDE = 180; // px of the picture of the image's frame

export async function show(panel) {
  if (state.cell < 0) {
    panel.replaceChildren(el("p", {}, "Choose a cell: a point of a map, or a picture under Cells."));
    return;
  }
  const row = state.cell;
  const card = await json(`/api/cell/${row}`);
  if (row !== state.cell || state.tab !== "card") return; // another one was chosen meanwhile
  panel.replaceChildren(...[
    el("div", { className: "bar" }, el("b", { id: "cell-id" }, card.cell_id), outlineButton()),
    el("div", { className: "pair" }, el("img", { className: "big", src: crop(row), alt: `Crop of ${card.cell_id}` }), place(card)),
    said.flag[row] ? el("p", {}, "⚑ flagged") : null,
    said.note[row] ? el("p", { className: "said" }, said.note[row]) : null,
    facts(card),
    ...card.predictions.map(prediction),
    ...card.heat.map((number) => heat(row, number)),
    card.twins.length ? twins(card.twins) : null,
    ...card.neighbours.map(neighbours),
  ].filter(Boolean));
}

// Where a fitted network looks: it takes a moment, so the card does not wait for it.
function heat(row, number) {
  const section = el("section", { className: "heat" }, el("h3", {}, `Where ${store.fitted[number]} looks`), el("p", {}, "looking…"));
  json(`/api/heat/${number}/${row}`).then(
    ([first]) => section.replaceChildren(section.firstChild, el("figure", {},
      el("img", { className: "big", src: `/api/heat/${number}/${row}/picture`, alt: `Heat map of ${store.fitted[number]}` }),
      el("figcaption", {}, `${first.class}, ${(100 * first.probability).toFixed(1)} %`))),
    (error) => section.replaceChildren(section.firstChild, el("p", {}, error.message)),
  );
  return section;
}

function twins(found) {
  return el("section", {}, el("h3", {}, "The same cell in the other store, with the overlap of the boxes"),
    tiles(found.map(({ row }) => row), (k) => `${found[k].store}, ${found[k].iou}`));
}

function place({ row, image, boxes, image_id }) {
  if (!(image.width > 0 && image.height > 0)) return el("p", {}, "The size of its image is not known.");
  const line = Math.max(image.width, image.height) / 150;
  const frame = svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, width: WIDE, class: "place", role: "img", "aria-label": `Place of the cell in ${image_id}` },
    svg("rect", { x: 0, y: 0, width: image.width, height: image.height, class: "frame" }));
  for (const { row: other, box: [x0, y0, x1, y1] } of boxes)
    frame.append(svg("rect", {
      x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), "stroke-width": other === row ? 2 * line : line,
      class: other === row ? "box this" : "box", onclick: () => change({ cell: other }),
    }));
  return el("figure", {}, frame, el("figcaption", {}, `${image_id}, ${image.width} × ${image.height} px`));
}

function facts({ row, metadata, boxes, values: own }) {
  const line = (name, text, colour) => el("tr", {}, el("th", { scope: "row" }, name),
    el("td", {}, colour ? el("span", { className: "swatch", colour }) : "", text));
  const lines = store.columns.map(({ name, number, shown, colours }, k) => {
    const value = values[k] ? values[k][row] : own[k]; // labels are those that were given since
    if (number) return line(name, Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–");
    return line(name, shown[value] ?? "–", colours[value]);
  });
  const columns = new Set(store.columns.map(({ name }) => name));
  const further = Object.entries(metadata).filter(([name]) => !columns.has(name)).map(([name, text]) => line(name, text));
  const box = boxes.find((one) => one.row === row).box;
  return el("table", { className: "facts" }, el("tbody", {}, ...lines, ...further, line("box, px", box.join(", "))));
}

function prediction({ method, classes }) {
  return el("section", {}, el("h3", {}, `Predicted by ${method}`), el("table", { className: "facts" }, el("tbody", {},
    ...classes.slice(0, 5).map(({ class: name, probability }) => el("tr", {}, el("th", { scope: "row" }, name),
      el("td", {}, el("meter", { max: 1, value: probability }), ` ${(100 * probability).toFixed(1)} %`))))));
}

function neighbours({ within, across, method }) {
  const line = (title, cells) => el("div", {}, el("h4", {}, title),
    cells.length ? tiles(cells.map(({ row }) => row), (k) => cells[k].distance.toPrecision(3)) : el("p", {}, "none"));
  return el("section", {}, el("h3", {}, `Nearest by ${method}`), line("in its laboratory, with distance", within), line("in other laboratories", across));
}
