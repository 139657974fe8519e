// Labels, flags and notes, where the server lets them be written. Other windows and people may write the same log.
import { byId, el, say } from "/static/dom.js";
import { change, column, filter, json, said, select, selection, state, store, tell, values } from "/static/state.js";

const LOOK = 4000; // ms between two looks at the log
let labels = -1; // number of the column of labels
let stored = null; // its values in the store
let quick = []; // codes of the classes that the keys 1 to 9 give: the first ones that the store has

export async function start() {
  if (!store.annotate) return;
  labels = store.columns.findIndex(({ name }) => name === "label");
  stored = (await column(labels)).slice();
  const { names } = store.columns[labels], there = new Set(stored);
  quick = [...names.keys()].filter((code) => names[code] && there.has(code)).slice(0, 9);
  if (apply(await json("/api/annotations"))) filter();
  setInterval(() => json(`/api/annotations?known=${said.lines}`).then(take).catch((error) => say(error.message)), LOOK);
}

// The cells that are annotated: the open one, or the selection.
const chosen = () => (state.tab === "card" ? (state.cell >= 0 ? [state.cell] : []) : Array.from(selection));

export function showBar() {
  const bar = byId("annotate");
  bar.hidden = !store.annotate;
  if (bar.hidden || document.activeElement?.id === "note") return; // what is typed is not lost
  const rows = chosen(), none = rows.length === 0, { names, shown } = store.columns[labels];
  const same = (of, otherwise) => {
    const first = of[rows[0]] ?? otherwise;
    return rows.every((row) => (of[row] ?? otherwise) === first) ? first : otherwise;
  };
  const kept = document.activeElement?.id;
  const label = el("select", { id: "as", disabled: none, "aria-label": "Label", onchange: (event) => save("label", names[Number(event.target.value)]) },
    el("option", { value: "-1" }, `label ${rows.length.toLocaleString("en")} as…`), ...names.map((_, code) => el("option", { value: String(code) }, `${shown[code]}${quick.includes(code) ? ` (${quick.indexOf(code) + 1})` : ""}`)));
  const flagged = same(said.flag, false);
  const note = el("input", { id: "note", disabled: none, maxLength: 2000, placeholder: "note", value: none ? "" : same(said.note, ""), onchange: (event) => save("note", event.target.value) });
  bar.replaceChildren(el("div", { className: "bar" }, label,
    el("button", { id: "flag", disabled: none, "aria-pressed": String(flagged), title: "Flag (F)", onclick: () => save("flag", !flagged) }, "⚑ Flag"),
    note,
    el("button", { id: "undo", title: "Undo your last save (U)", onclick: undo }, "Undo"),
    el("button", { title: "Select the flagged cells", onclick: showFlagged }, "Flagged"),
    el("span", {}, `as ${said.user}`)));
  if (kept && bar.querySelector(`#${CSS.escape(kept)}`)) byId(kept).focus();
}

export function press(key) {
  if (!store.annotate) return;
  const code = quick[Number(key) - 1];
  if (key === "u") undo();
  else if (key === "f") byId("flag").click();
  else if (key === "g") byId("as").focus();
  else if (code !== undefined) save("label", store.columns[labels].names[code]);
}

function showFlagged() {
  select(Object.entries(said.flag).filter(([, on]) => on).map(([row]) => Number(row)));
  change({ tab: "cells", page: 0 });
}

const send = (path, content) => json(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });

async function save(kind, value) {
  const rows = chosen();
  if (!rows.length || value === undefined) return;
  try {
    take(await send("/api/annotations", { rows, kind, new: value }));
    say(`Saved: ${kind} of ${rows.length} cell${rows.length === 1 ? "" : "s"}`);
  } catch (error) {
    say(`Not saved: ${error.message}`);
  }
}

async function undo() {
  try {
    take(await send("/api/undo", {}));
    say("Undone");
  } catch (error) {
    say(`Not undone: ${error.message}`);
  }
}

function take(answer) {
  if (!apply(answer)) return;
  filter();
  tell(new Set(["said", "filters"]));
}

// What the log says, if it is new.
function apply(answer) {
  if (answer.lines === said.lines && said.user) return false;
  Object.assign(said, answer);
  const codes = new Map(store.columns[labels].names.map((name, code) => [name, code])), now = stored.slice();
  for (const [row, name] of Object.entries(said.label)) now[row] = codes.get(name) ?? now[row];
  values[labels] = now;
  return true;
}
