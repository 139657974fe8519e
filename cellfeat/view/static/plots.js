// One or two maps of the cells, linked: what is selected in one is selected in the other.
import createScatterplot from "/static/vendor/regl-scatterplot.js";
import createDensity from "/static/density.js";
import { byId, el, say } from "/static/dom.js";
import { column, isShown, points, select, selection, shown, state, store, values, change, where } from "/static/state.js";

// Cells from which on how many lie at a place is drawn, and not each of them: points would be 2 px then, and hide each
// other. Drawn by software, 65,693 points took 15 times the processor time.
const MANY = 20000;
const STEPS = 64; // colours of a number
const NONE = "#d4d4d4";
const plots = {};

export async function show(side) {
  const box = byId(`plot-${side}`), number = state[side];
  box.hidden = number < 0;
  if (number < 0) return;
  const plot = (plots[side] ??= make(side, box));
  if (!plot) return;
  if (plot.number !== number) {
    const all = await points(number), count = store.cells;
    plot.rows = where((row) => Number.isFinite(all[row]) && Number.isFinite(all[count + row]));
    plot.at = new Int32Array(count).fill(-1);
    plot.rows.forEach((row, index) => (plot.at[row] = index));
    plot.x = plot.rows.length === count ? all.subarray(0, count) : new Float32Array(plot.rows.length);
    plot.y = plot.rows.length === count ? all.subarray(count) : new Float32Array(plot.rows.length);
    if (plot.rows.length < count) plot.rows.forEach((row, index) => ([plot.x[index], plot.y[index]] = [all[row], all[count + row]]));
    plot.number = number;
    plot.index = undefined;
  }
  await paint(plot);
  const { name, reason } = store.maps[number];
  box.querySelector(".note").textContent = reason ? `${name}: nothing to draw (${reason})` : name;
}

export async function paintAll() {
  for (const side of ["a", "b"]) if (plots[side] && state[side] >= 0) await paint(plots[side]);
}

export function mark(from) {
  for (const plot of Object.values(plots)) {
    if (!plot?.drawn || plot === from) continue;
    const indices = Array.from(where((row) => plot.at[row] >= 0 && isShown(row), selection), (row) => plot.at[row]);
    if (indices.length) plot.scatter.select(indices, { preventEvent: true });
    else plot.scatter.deselect({ preventEvent: true });
  }
}

export function filterAll() {
  for (const plot of Object.values(plots)) if (plot?.drawn) applyFilter(plot);
}

export function setLasso(on) {
  for (const plot of Object.values(plots)) plot?.scatter.set({ mouseMode: on ? "lasso" : "panZoom" });
}

export function resetView() {
  for (const plot of Object.values(plots)) if (plot) fit(plot);
}

// Both maps are moved alike: by parts of what is in view, and nearer or further.
export function move(dx, dy, zoom) {
  for (const plot of Object.values(plots)) {
    if (!plot) continue;
    const [x, y] = plot.scatter.get("cameraTarget"), distance = plot.scatter.get("cameraDistance");
    plot.scatter.set({ cameraTarget: [x + dx * distance, y + dy * distance], cameraDistance: distance * zoom });
  }
}

// The cells that lie in the part of the first map that is in view: a lasso by key.
export function selectInView() {
  const plot = plots.a;
  if (!plot?.drawn) return;
  const [x, y] = plot.scatter.get("cameraTarget"), high = plot.scatter.get("cameraDistance");
  const { width, height } = plot.box.getBoundingClientRect(), wide = (high * width) / Math.max(1, height);
  select(where((row) => {
    const index = plot.at[row];
    return index >= 0 && Math.abs(plot.x[index] - x) <= wide && Math.abs(plot.y[index] - y) <= high;
  }, shown));
}

// Colours of the points: the codes of a category, or a number in steps of its scale.
export function paintOf(number) {
  const { number: isNumber, colours } = store.columns[number], of = values[number];
  if (!isNumber) return { codes: of, colours };
  const [low, high] = range(of), width = high - low || 1;
  const codes = Int32Array.from(of, (value) => (Number.isNaN(value) ? STEPS : Math.min(STEPS - 1, Math.floor(((value - low) / width) * STEPS))));
  return { codes, colours: [...Array(STEPS).keys()].map((step) => between(colours, step / (STEPS - 1))).concat(NONE) };
}

export function range(of) {
  let low = Infinity, high = -Infinity;
  for (const value of of) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}

function between(colours, part) {
  const at = part * (colours.length - 1), first = Math.min(Math.floor(at), colours.length - 2);
  const channels = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  const one = channels(colours[first]), other = channels(colours[first + 1]);
  return "#" + one.map((value, k) => Math.round(value + (other[k] - value) * (at - first)).toString(16).padStart(2, "0")).join("");
}

function make(side, box) {
  const canvas = box.querySelector("canvas");
  let scatter;
  try {
    scatter = store.cells > MANY ? createDensity({ canvas }) : createScatterplot({
      canvas, width: "auto", height: "auto", backgroundColor: "#ffffff", opacity: 0.8, pointSizeSelected: 1,
      pointOutlineWidth: 1, lassoColor: "#0072b2", pointColorActive: "#000000", pointColorHover: "#000000",
      opacityInactiveScale: 0.25, spatialIndexUseWorker: false, deselectOnEscape: false,
    });
  } catch (error) {
    box.querySelector(".note").textContent = `This browser cannot draw maps (WebGL: ${error.message}). Cells and counts work.`;
    return null;
  }
  const plot = { side, box, scatter, rows: [], number: -1, drawn: false };
  fit(plot);
  scatter.subscribe("select", ({ points: indices }) => {
    const rows = Int32Array.from(indices, (index) => plot.rows[index]);
    select(rows, plot);
    if (rows.length === 1) change({ cell: rows[0], tab: "card" });
    else if (state.tab === "card") change({ tab: "cells", page: 0 });
  });
  scatter.subscribe("deselect", () => select([], plot));
  scatter.subscribe("pointover", (index) => tip(plot, index));
  scatter.subscribe("pointout", () => (byId("tip").hidden = true));
  return plot;
}

// The whole map in a box that is higher than wide: the library fits the height alone.
function fit(plot) {
  const { width, height } = plot.box.getBoundingClientRect();
  plot.scatter.set({ cameraTarget: [0, 0], cameraRotation: 0, cameraDistance: Math.max(1, height / Math.max(1, width)) });
}

async function paint(plot) {
  await column(state.colour);
  const { codes, colours } = paintOf(state.colour);
  const valueA = plot.rows.length === store.cells ? codes : Int32Array.from(plot.rows, (row) => codes[row]);
  plot.scatter.set({
    colorBy: "valueA", pointColor: colours.length > 1 ? colours : [...colours, NONE],
    pointSize: plot.rows.length > 2000 ? 4 : 7,
  });
  await plot.scatter.draw({ x: plot.x, y: plot.y, valueA }, { zDataType: "categorical", spatialIndex: plot.index });
  plot.index = plot.scatter.get("spatialIndex");
  plot.drawn = true;
  applyFilter(plot);
  mark(null);
}

function applyFilter(plot) {
  if (shown.length === store.cells) plot.scatter.unfilter();
  else plot.scatter.filter(Array.from(where((row) => plot.at[row] >= 0, shown), (row) => plot.at[row]));
}

function tip(plot, index) {
  const row = plot.rows[index], { names, shown: prose, name, number } = store.columns[state.colour];
  const value = values[state.colour][row];
  const [x, y] = plot.scatter.getScreenPosition(index) ?? [0, 0], frame = plot.box.getBoundingClientRect();
  const box = byId("tip");
  box.replaceChildren(el("img", { src: `/api/crop/${row}`, alt: "" }), el("span", {}, `${name}: ${number ? value.toPrecision(4) : prose[value] || names[value]}`));
  box.style.left = `${Math.min(frame.left + x + 14, innerWidth - 150)}px`;
  box.style.top = `${Math.min(frame.top + y + 14, innerHeight - 170)}px`;
  box.hidden = false;
}
