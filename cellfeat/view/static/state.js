// What the page shows, kept in the address: a link opens the same view. The cells themselves come from the server.

export const store = { columns: [], maps: [], cells: 0, stores: [], fitted: [] };
export const values = []; // of each column that was asked for: Int32Array of codes or Float32Array
export const said = { lines: 0, user: "", label: {}, flag: {}, note: {} }; // what people say: row → value
export let selection = new Int32Array(0); // rows, ascending
export let shown = new Int32Array(0); // rows that pass the filters, ascending
let mask = new Uint8Array(0); // 1 where a row is shown

export const state = {
  a: 0, b: -1, colour: 0, cell: -1, outline: false, tab: "cells", order: -1, highest: false, across: 0, down: 1, page: 0,
  filters: {}, // number of a column → {hidden: [codes]} or {low, high}
};

const MOST_IN_ADDRESS = 2000; // selected cells: a link should fit into a message

const listeners = [];
export const listen = (listener) => listeners.push(listener);

export async function json(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json().catch(() => ({ detail: `${answer.status}` }));
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : "the server refused that");
  return content;
}

async function buffer(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.arrayBuffer();
}

export async function column(number) {
  if (!values[number]) {
    const content = await buffer(`/api/column/${number}`);
    values[number] = store.columns[number].number ? new Float32Array(content) : new Int32Array(content);
  }
  return values[number];
}

export async function points(number) {
  return new Float32Array(await buffer(`/api/map/${number}`));
}

export async function start() {
  Object.assign(store, await json("/api/store"));
  readAddress();
  const needed = [0, 1, ...Object.keys(state.filters).map(Number), ...(state.order >= 0 ? [state.order] : [])];
  await Promise.all(needed.map(column));
  filter();
}

export async function change(changes) {
  Object.assign(state, changes);
  if (changes.filters) {
    await Promise.all(Object.keys(state.filters).map(Number).map(column));
    filter();
  }
  if (changes.colour !== undefined) await column(state.colour);
  writeAddress();
  tell(new Set(Object.keys(changes)));
}

export function select(rows, from = null) {
  selection = Int32Array.from(rows).sort();
  state.page = 0;
  writeAddress();
  tell(new Set(["selection"]), from);
}

export function tell(what, from = null) {
  for (const listener of listeners) listener(what, from);
}

export const isShown = (row) => mask[row] === 1;

// The cells that the gallery lists: the selected ones that are shown, or all that are shown, in the chosen order.
let kept = {};
export function listed() {
  const by = values[state.order], { highest } = state;
  if (kept.selection !== selection || kept.shown !== shown || kept.by !== by || kept.highest !== highest) {
    const rows = selection.length ? selection.filter(isShown) : shown.slice(), last = highest ? -Infinity : Infinity;
    if (by) {
      const keys = Float64Array.from(rows, (row) => (Number.isNaN(by[row]) ? last : by[row]));
      const order = Uint32Array.from(rows.keys()).sort((one, other) => (highest ? keys[other] - keys[one] : keys[one] - keys[other]) || one - other);
      kept = { rows: Int32Array.from(order, (at) => rows[at]) };
    } else kept = { rows };
    Object.assign(kept, { selection, shown, by, highest });
  }
  return kept.rows;
}

export function filter() {
  mask = new Uint8Array(store.cells).fill(1);
  for (const [number, { hidden, low, high }] of Object.entries(state.filters)) {
    const of = values[number];
    if (hidden) {
      const out = new Uint8Array(store.columns[number].names.length);
      for (const code of hidden) out[code] = 1;
      for (let row = 0; row < mask.length; row++) if (out[of[row]]) mask[row] = 0;
    } else {
      for (let row = 0; row < mask.length; row++) if (!(of[row] >= low && of[row] <= high)) mask[row] = 0;
    }
  }
  shown = where((row) => mask[row]);
}

// The rows of which something is true, ascending.
export function where(test, among = null) {
  const count = among ? among.length : store.cells, found = new Int32Array(count);
  let length = 0;
  for (let k = 0; k < count; k++) {
    const row = among ? among[k] : k;
    if (test(row)) found[length++] = row;
  }
  return found.slice(0, length);
}

// Rows as "3,5-9", and back; what is no row is left out.
function asRanges(rows) {
  const parts = [];
  for (let k = 0; k < rows.length; k++) {
    const first = rows[k];
    while (rows[k + 1] === rows[k] + 1) k++;
    parts.push(rows[k] > first ? `${first}-${rows[k]}` : `${first}`);
  }
  return parts.join(",");
}

function fromRanges(text) {
  const found = new Set();
  for (const part of text.split(",")) {
    const [, first, last] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part) ?? [];
    if (first === undefined) continue;
    for (let row = Number(first); row <= Number(last ?? first) && row < store.cells; row++)
      if (found.size < MOST_IN_ADDRESS) found.add(row);
      else break;
  }
  return Int32Array.from(found).sort();
}

// Columns are named, so that a link stays right when another column is added.
function writeAddress() {
  const name = (number) => store.columns[number]?.name ?? "";
  const parts = new URLSearchParams();
  parts.set("map", state.a);
  if (state.b >= 0) parts.set("beside", state.b);
  parts.set("colour", name(state.colour));
  parts.set("tab", state.tab);
  if (state.cell >= 0) parts.set("cell", state.cell);
  if (state.outline) parts.set("outline", "1");
  if (state.order >= 0) parts.set(state.highest ? "highest" : "lowest", name(state.order));
  if (state.page > 0) parts.set("page", state.page + 1);
  parts.set("down", name(state.down));
  parts.set("across", name(state.across));
  if (selection.length && selection.length <= MOST_IN_ADDRESS) parts.set("selected", asRanges(selection));
  for (const [number, filter] of Object.entries(state.filters)) {
    const names = store.columns[number].names;
    parts.append("filter", JSON.stringify(
      filter.hidden ? [name(number), filter.hidden.map((code) => names[code])] : [name(number), filter.low, filter.high]));
  }
  history.replaceState(null, "", `${location.pathname}#${parts}`);
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const find = (name) => store.columns.findIndex((column) => column.name === name);
  const whole = (name, most, otherwise) => {
    const text = parts.get(name), number = Number(text);
    return text !== null && Number.isInteger(number) && number >= 0 && number < most ? number : otherwise;
  };
  state.a = whole("map", store.maps.length, 0);
  state.b = whole("beside", store.maps.length, -1);
  state.colour = Math.max(0, find(parts.get("colour")));
  state.cell = whole("cell", store.cells, -1);
  state.outline = parts.get("outline") === "1";
  state.tab = ["cells", "card", "table", ...(store.upload ? ["upload"] : [])].includes(parts.get("tab")) ? parts.get("tab") : "cells";
  state.highest = parts.has("highest");
  state.order = find(parts.get("highest") ?? parts.get("lowest"));
  if (state.order >= 0 && !store.columns[state.order].number) state.order = -1;
  state.page = whole("page", 1e6, 1) - 1;
  state.page = Math.max(0, state.page);
  for (const key of ["down", "across"]) if (find(parts.get(key)) >= 0) state[key] = find(parts.get(key));
  selection = fromRanges(parts.get("selected") ?? "");
  state.filters = {};
  for (const text of parts.getAll("filter")) {
    let found;
    try { found = JSON.parse(text); } catch { continue; }
    if (!Array.isArray(found)) continue;
    const number = find(found[0]), column = store.columns[number];
    if (column && !column.number && Array.isArray(found[1]))
      state.filters[number] = { hidden: found[1].map((name) => column.names.indexOf(name)).filter((code) => code >= 0) };
    else if (column?.number && Number.isFinite(found[1]) && Number.isFinite(found[2]))
      state.filters[number] = { low: found[1], high: found[2] };
  }
}
