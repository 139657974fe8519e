// A picture of one's own: sent, and shown with every cell that was found, its class, and where the network looked.
import { el, say, svg } from "/static/dom.js";
import { change, store } from "/static/state.js";
import { tiles } from "/static/gallery.js";

const MOST = 32 * 2 ** 20; // bytes, as the server takes
let found = null; // the last answer, and the name of its file
let chosen = 0;

export function show(panel) {
  const input = el("input", { type: "file", id: "file", "aria-label": "Picture", onchange: () => send(panel, input.files[0]) });
  const bar = el("div", { className: "bar" }, input, found?.cells.length ? el("button", { id: "table", onclick: save }, "Table") : null);
  panel.ondragover = (event) => event.preventDefault();
  panel.ondrop = (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) send(panel, event.dataTransfer.files[0]);
  };
  const note = el("p", {}, "A picture of a smear: its cells are found and named. Nothing of it is kept on the disk.");
  panel.replaceChildren(bar, ...(found ? [picture(panel), ...details()] : [note]));
}

async function send(panel, file) {
  if (!file) return;
  if (file.size > MOST) return say(`${file.name} is larger than ${MOST / 2 ** 20} MB`);
  say(`${file.name}: looking for cells…`);
  try {
    const answer = await fetch("/api/upload", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    const content = await answer.json().catch(() => ({ detail: `${answer.status}` }));
    if (!answer.ok) throw new Error(content.detail);
    found = { ...content, file: file.name };
    chosen = 0;
    say(`${file.name}: ${found.cells.length} cells`);
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
  change({ tab: "upload" });
}

function picture(panel) {
  const { width, height, cells, id, file } = found, line = Math.max(width, height) / 250;
  const frame = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "sent", role: "img", "aria-label": `${file}, ${cells.length} cells` },
    svg("image", { href: `/api/upload/${id}`, width, height }));
  cells.forEach(({ box: [x0, y0, x1, y1], classes: [best], colour }, k) => {
    const drawn = svg("rect", {
      x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), "stroke-width": k === chosen ? 3 * line : line,
      class: "box", tabindex: 0, "aria-label": `Cell ${k + 1}: ${best.class}`,
      onclick: () => open(panel, k), onkeydown: (event) => event.key === "Enter" && open(panel, k),
    });
    drawn.style.stroke = colour;
    frame.append(drawn, svg("text", { x: x0, y: Math.max(8 * line, y0 - 2 * line), "font-size": 8 * line }, `${best.class} ${best.probability.toFixed(2)}`));
  });
  return el("figure", {}, frame, el("figcaption", { id: "sent" }, `${file}, ${width} × ${height} px: ${cells.length} cells`));
}

function open(panel, number) {
  chosen = number;
  show(panel);
}

function details() {
  const cell = found.cells[chosen];
  if (!cell) return [];
  const address = `/api/upload/${found.id}/${chosen}`;
  return [
    el("h3", {}, `Cell ${chosen + 1} of ${found.cells.length}, score ${cell.score}`),
    el("div", { className: "pair" }, el("img", { className: "big", src: address, alt: "Crop" }), el("img", { className: "big", src: `${address}?heat=true`, alt: "Where the network looks" })),
    el("table", { className: "facts" }, el("tbody", {}, ...cell.classes.slice(0, 5).map(({ class: name, probability }) =>
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, el("meter", { max: 1, value: probability }), ` ${(100 * probability).toFixed(1)} %`))))),
    cell.neighbours.length ? el("section", {}, el("h4", {}, `Nearest cells of ${store.stores[0]}, with distance`),
      tiles(cell.neighbours.map(({ row }) => row), (k) => cell.neighbours[k].distance.toPrecision(3))) : null,
  ].filter(Boolean);
}

// The table, made here of what is shown; text that a spreadsheet would run is quoted by '.
function save() {
  const quoted = (text) => `"${String(text).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const lines = found.cells.map(({ box, score, classes }) => [quoted(found.file), ...box, score, quoted(classes[0].class), classes[0].probability].join(","));
  const blob = new Blob([["file,x0,y0,x1,y1,score,predicted,probability", ...lines, ""].join("\n")], { type: "text/csv" });
  const link = el("a", { href: URL.createObjectURL(blob), download: "cells.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
