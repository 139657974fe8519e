// The page: its controls, its keys, and who is told of what.
import { byId, el, options, say } from "/static/dom.js";
import * as annotate from "/static/annotate.js";
import * as card from "/static/card.js";
import * as crosstab from "/static/crosstab.js";
import * as gallery from "/static/gallery.js";
import * as legend from "/static/legend.js";
import * as plots from "/static/plots.js";
import * as upload from "/static/upload.js";
import { change, listed, listen, select, shown, start, state, store, tell } from "/static/state.js";

const PANELS = { cells: gallery.show, card: card.show, table: crosstab.show, upload: upload.show };
const IN_PANEL = ["said", "cell", "tab", "outline", "order", "highest", "page", "across", "down", "filters"];
const MOVES = { "Shift+ArrowLeft": [-0.2, 0], "Shift+ArrowRight": [0.2, 0], "Shift+ArrowUp": [0, 0.2], "Shift+ArrowDown": [0, -0.2] };
let lasso = false;

const KEYS = [
  ["← →", "the previous and the next cell", (event) => step(event.key === "ArrowLeft" ? -1 : 1), ["ArrowLeft", "ArrowRight"]],
  ["Shift and an arrow", "move the maps", (event) => plots.move(...MOVES[event.key], 1), Object.keys(MOVES)],
  ["+ −", "nearer, further", ({ key }) => plots.move(0, 0, key === "-" ? 1.25 : 0.8), ["+", "=", "-"]],
  ["V", "select the cells in view of the first map", () => plots.selectInView(), ["v"]],
  ["N", "what to look at next: the cells that are most worth a look first", () => gallery.review(), ["n"]],
  ["P", "the next page of cells", () => change({ tab: "cells", page: state.page + 1 }), ["p"]],
  ["C, I, T", "cells, one cell, counts", (event) => change({ tab: { c: "cells", i: "card", t: "table" }[event.key] }), ["c", "i", "t"]],
  ["A", "select all cells that are shown", () => select(shown), ["a"]],
  ["Escape", "select nothing", () => select([]), ["Escape"]],
  ["L", "drag draws a lasso, or moves the map (Shift and drag always draws a lasso)", () => setLasso(!lasso), ["l"]],
  ["R", "the whole map", () => plots.resetView(), ["r"]],
  ["O", "outlines of the masks", () => change({ outline: !state.outline }), ["o"]],
  ["M", "the next colours", () => change({ colour: (state.colour + 1) % store.columns.length }), ["m"]],
  ["G, 1 to 9", "give the cells a label: choose it, or one of those given last (with --annotate)", ({ key }) => annotate.press(key), ["g", ..."123456789"]],
  ["F, U", "flag the cells, undo (with --annotate)", ({ key }) => annotate.press(key), ["f", "u"]],
  ["?", "these keys", () => byId("keys").showModal(), ["?"]],
];

function setLasso(on) {
  lasso = on;
  byId("lasso").setAttribute("aria-pressed", String(on));
  plots.setLasso(on);
}

function step(by) {
  const rows = listed(), at = rows.indexOf(state.cell);
  if (rows.length) change({ cell: rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))], tab: "card" });
}

async function showPanel() {
  for (const tab of byId("tabs").children) tab.setAttribute("aria-selected", String(tab.dataset.tab === state.tab));
  annotate.showBar();
  await PANELS[state.tab](byId("panel"));
}

async function update(what, from) {
  if (what.has("a")) await plots.show("a");
  if (what.has("b")) await plots.show("b");
  if (what.has("colour")) byId("colour").value = String(state.colour);
  if (!what.has("a") && (what.has("said") || what.has("colour"))) await plots.paintAll();
  if (what.has("filters")) plots.filterAll();
  if (what.has("selection") || what.has("filters")) plots.mark(from);
  if (["colour", "filters", "selection", "said"].some((name) => what.has(name))) await legend.show();
  const list = what.has("selection") && state.tab === "cells";
  if (list || IN_PANEL.some((name) => what.has(name))) await showPanel();
}

function controls() {
  document.title = `${store.name} – cellfeat`;
  byId("name").textContent = store.name;
  byId("count").textContent = `${store.cells.toLocaleString("en")} cells`;
  options(byId("map-a"), store.maps.map(({ name }) => name), state.a);
  byId("map-b").append(el("option", { value: "-1" }, "–"), ...store.maps.map(({ name }, k) => el("option", { value: String(k) }, name)));
  byId("map-b").value = String(state.b);
  options(byId("colour"), store.columns.map(({ name }) => name), state.colour);
  byId("map-a").onchange = (event) => change({ a: Number(event.target.value) });
  byId("map-b").onchange = (event) => change({ b: Number(event.target.value) });
  byId("colour").onchange = (event) => change({ colour: Number(event.target.value) });
  byId("lasso").onclick = () => setLasso(!lasso);
  byId("all").onclick = () => select(shown);
  byId("clear").onclick = () => select([]);
  byId("help").onclick = () => byId("keys").showModal();
  byId("tab-upload").hidden = !store.upload;
  for (const tab of byId("tabs").children) tab.onclick = () => change({ tab: tab.dataset.tab });
  byId("keys").append(el("h2", {}, "Keys"), el("table", {}, el("tbody", {}, ...KEYS.map(([keys, does]) => el("tr", {}, el("th", {}, keys), el("td", {}, does))))),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.key !== "Escape") return;
    const shifted = event.shiftKey && event.key.startsWith("Arrow") ? "Shift+" : "";
    const key = event.key.length === 1 ? event.key.toLowerCase() : shifted + event.key;
    const found = KEYS.find(([, , , keys]) => keys.includes(key));
    if (found) {
      event.preventDefault();
      found[2]({ key });
    }
  });
}

function tellErrors() {
  addEventListener("unhandledrejection", (event) => say(`Something went wrong: ${event.reason?.message ?? event.reason}`));
  addEventListener("error", (event) => say(`Something went wrong: ${event.message}`));
}

tellErrors();
if (location.search) history.replaceState(null, "", `${location.pathname}${location.hash}`); // the token leaves the address
await start();
controls();
// One after the other: a map that is still being drawn leaves a second call out.
let last = Promise.resolve();
listen((what, from) => {
  last = last.then(() => update(what, from)).catch((error) => say(`Something went wrong: ${error.message}`));
});
await annotate.start();
tell(new Set(["a", "b", "colour", "tab"])); // all is drawn once
await last;
document.body.dataset.ready = "true";
