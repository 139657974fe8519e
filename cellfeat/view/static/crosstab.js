// How many cells of one thing are another: classes by laboratory, or a confusion matrix. A count opens its cells.
import { el } from "/static/dom.js";
import { change, column, select, shown, state, store, values } from "/static/state.js";

const MOST = 60; // names of a column that are a table still

export async function show(panel) {
  const able = store.columns.flatMap(({ number, names }, k) => (!number && names.length <= MOST ? [k] : []));
  const choose = (key) => {
    const box = el("select", { "aria-label": key, onchange: (event) => change({ [key]: Number(event.target.value) }) },
      ...able.map((k) => el("option", { value: String(k) }, store.columns[k].name)));
    if (!able.includes(state[key])) state[key] = able[0];
    box.value = String(state[key]);
    return box;
  };
  const bar = el("div", { className: "bar" }, choose("down"), "by", choose("across"));
  const [down, across] = await Promise.all([column(state.down), column(state.across)]);
  const rows = used(down), columns = used(across);
  const wide = store.columns[state.across].names.length, counts = new Int32Array(store.columns[state.down].names.length * wide);
  for (const row of shown) counts[down[row] * wide + across[row]]++;
  const most = Math.max(1, ...counts);
  const open = (one, other) => {
    select(shown.filter((row) => down[row] === one && across[row] === other));
    change({ tab: "cells", page: 0 });
  };
  const cell = (one, other) => {
    const count = counts[one * wide + other];
    const inside = count ? el("button", { onclick: () => open(one, other) }, count.toLocaleString("en")) : "";
    const element = el("td", {}, inside);
    if (count) element.style.backgroundColor = `rgba(0, 114, 178, ${0.08 + 0.5 * Math.sqrt(count / most)})`;
    return element;
  };
  const name = (k, code) => store.columns[k].shown[code];
  panel.replaceChildren(bar, el("div", { className: "scroll" }, el("table", { className: "counts" },
    el("thead", {}, el("tr", {}, el("th"), ...columns.map((code) => el("th", { scope: "col" }, name(state.across, code))))),
    el("tbody", {}, ...rows.map((one) => el("tr", {}, el("th", { scope: "row" }, name(state.down, one)), ...columns.map((other) => cell(one, other))))))),
    el("p", {}, "Of the cells that are shown. A count selects its cells."));
}

function used(of) {
  const found = new Set();
  for (const row of shown) found.add(of[row]);
  return [...found].sort((one, other) => one - other);
}
