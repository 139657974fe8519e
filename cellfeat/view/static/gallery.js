// The crops of the cells that are selected, or of all that are shown.
import { el, say } from "/static/dom.js";
import { change, column, listed, said, selection, state, store, values } from "/static/state.js";

const PAGE = 48; // crops at a time

export const crop = (row) => `/api/crop/${row}${state.outline ? "?outline=true" : ""}`;

export function title(row) {
  return [1, 0].map((number) => store.columns[number].shown[values[number][row]]).filter(Boolean).join(", ");
}

// Crops side by side in one picture: a request a cell took three times as long.
export function tiles(rows, further = () => "") {
  const shown = Array.from(rows, (row, k) => {
    const crop = el("span", { className: "crop" });
    crop.style.backgroundSize = `${rows.length * 100}% 100%`;
    crop.style.backgroundPositionX = rows.length > 1 ? `${(100 * k) / (rows.length - 1)}%` : "0";
    return el("button", {
      className: "tile", "data-row": String(row), "aria-label": `Cell ${row}: ${title(row)}`,
      onclick: () => change({ cell: row, tab: "card" }),
    }, crop, el("span", {}, `${said.flag[row] ? "⚑ " : ""}${further(k) || title(row)}`));
  });
  const box = el("div", { className: "tiles", "data-loaded": String(!rows.length) }, ...shown);
  if (rows.length) fill(box, `/api/crops?rows=${Array.from(rows).join(",")}${state.outline ? "&outline=true" : ""}`);
  return box;
}

async function fill(box, address) {
  const answer = await fetch(address);
  if (!answer.ok) {
    const { detail } = await answer.json().catch(() => ({}));
    return say(detail ?? `The crops did not come (${answer.status}).`);
  }
  await answer.blob(); // it is in the browser's cache now
  for (const crop of box.querySelectorAll(".crop")) crop.style.backgroundImage = `url("${address}")`;
  box.dataset.loaded = "true";
}

export function outlineButton() {
  return el("button", {
    "aria-pressed": String(state.outline), title: "Outline of the mask (O)", onclick: () => change({ outline: !state.outline }),
  }, "Outlines");
}

export async function sort(order, highest) {
  if (order >= 0) await column(order);
  change({ order, highest, page: 0, tab: "cells" });
}

// What to look at next: cells on which methods differ, of which they are unsure, and that lie apart.
export function review() {
  const worth = store.columns.findIndex(({ name }) => name === "worth a look");
  if (worth < 0) say("There are no embeddings or predictions to tell what is worth a look.");
  else sort(worth, true);
}

export function show(panel) {
  const rows = listed(), pages = Math.max(1, Math.ceil(rows.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const part = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const orders = store.columns.flatMap(({ name, number }, k) => (number ? [[`${k} `, `lowest ${name} first`], [`${k} highest`, `highest ${name} first`]] : []));
  const order = el("select", { id: "order", "aria-label": "Order", onchange: (event) => {
    const [chosen, highest] = event.target.value.split(" ");
    sort(Number(chosen), highest === "highest");
  } }, el("option", { value: "-1 " }, "in the store's order"), ...orders.map(([key, text]) => el("option", { value: key }, text)));
  order.value = `${state.order} ${state.order >= 0 && state.highest ? "highest" : ""}`;
  const turn = (step, text, off) => el("button", { disabled: off, onclick: () => change({ page: state.page + step }) }, text);
  panel.replaceChildren(
    el("div", { className: "bar" }, el("b", {}, `${rows.length.toLocaleString("en")} ${selection.length ? "selected" : "shown"}`), order, outlineButton()),
    tiles(part),
    el("div", { className: "bar" }, turn(-1, "Previous", state.page === 0), `${state.page + 1} of ${pages}`, turn(1, "Next", state.page >= pages - 1)),
  );
  if (!rows.length) panel.querySelector(".tiles").append("No cell passes the filters.");
}
