// The legend of the colours, which is the filter as well, and the list of all filters.
import { byId, el } from "/static/dom.js";
import { change, column, isShown, selection, shown, state, store, values } from "/static/state.js";
import { range } from "/static/plots.js";

const MOST = 200; // names listed

export async function show() {
  const number = state.colour, { name, number: isNumber } = store.columns[number];
  await column(number);
  const focused = document.activeElement?.dataset?.key; // the list is made anew; the keyboard stays where it was
  byId("legend").replaceChildren(el("h2", {}, name), isNumber ? scale(number) : names(number), filters());
  if (focused) byId("legend").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

const hiddenOf = (number) => state.filters[number]?.hidden ?? [];

function setFilter(number, filter) {
  const filters = { ...state.filters };
  if (filter && (!filter.hidden || filter.hidden.length)) filters[number] = filter;
  else delete filters[number];
  change({ filters, page: 0 });
}

function names(number) {
  const { names: all, shown: prose, colours } = store.columns[number], hidden = new Set(hiddenOf(number));
  const counts = new Int32Array(all.length), visible = new Int32Array(all.length);
  values[number].forEach((code, row) => { counts[code]++; if (isShown(row)) visible[code]++; });
  const codes = [...all.keys()].filter((code) => counts[code]);
  const toggle = (code) => hidden.has(code) ? [...hidden].filter((one) => one !== code) : [...hidden, code];
  return el("ul", {},
    ...codes.slice(0, MOST).map((code) => el("li", {},
      el("button", {
        className: "name", "aria-pressed": String(!hidden.has(code)), "data-key": `n${code}`, title: "Show or hide",
        onclick: () => setFilter(number, { hidden: toggle(code) }),
      }, el("span", { className: "swatch", colour: colours[code] }), el("span", { className: "text" }, prose[code]),
        el("span", { className: "count" }, visible[code].toLocaleString("en"))),
      el("button", {
        className: "only", "data-key": `o${code}`, "aria-label": `Only ${prose[code]}`,
        onclick: () => setFilter(number, { hidden: hidden.size === codes.length - 1 && !hidden.has(code) ? [] : codes.filter((one) => one !== code) }),
      }, "only"))),
    codes.length > MOST ? el("li", {}, `and ${codes.length - MOST} more`) : null);
}

function scale(number) {
  const [low, high] = range(values[number]), filter = state.filters[number] ?? { low, high };
  const field = (key, label) => el("label", {}, label, el("input", {
    type: "number", step: "any", value: String(Number(filter[key].toPrecision(6))), "data-key": key,
    onchange: (event) => {
      const value = Number(event.target.value);
      if (event.target.value !== "" && Number.isFinite(value)) setFilter(number, { low: filter.low, high: filter.high, [key]: value });
    },
  }));
  const bar = el("div", { className: "scale" });
  bar.style.backgroundImage = `linear-gradient(to right, ${store.columns[number].colours.join(", ")})`;
  return el("div", {}, bar, el("div", { className: "ends" }, el("span", {}, low.toPrecision(4)), el("span", {}, high.toPrecision(4))),
    field("low", "from "), field("high", "to "));
}

function filters() {
  const active = Object.entries(state.filters);
  const line = `${shown.length.toLocaleString("en")} of ${store.cells.toLocaleString("en")} shown, ${selection.length.toLocaleString("en")} selected`;
  return el("div", { className: "filters" }, el("p", { id: "shown" }, line),
    ...active.map(([number, { hidden, low, high }]) => {
      const { name } = store.columns[number];
      const what = hidden ? `${name}: ${hidden.length} hidden` : `${name}: ${low.toPrecision(3)} to ${high.toPrecision(3)}`;
      return el("button", { className: "chip", "data-key": `f${number}`, title: "Remove this filter", onclick: () => setFilter(number, null) }, `${what} ×`);
    }));
}
