// Look: where each piece of a text looks, head by head; which words lie near; what the positions are.

import { $, element, signed, visible } from "./elements.js";
import { colour, drawn, inkOn, legend, paint } from "./scales.js";
import { Latest, ask } from "./server.js";

const NAMES = { encoder: "The source at itself", decoder: "The text at itself", cross: "The translation at the source" };

const requests = { attention: new Latest(), neighbours: new Latest(), positions: new Latest() };
let model = null;
let seen = null; // what the server said last of attention
let head = null; // which one is shown large; null: their mean
let tables = []; // of positions

function fail(id) {
  return (error) => ($(id).textContent = error.message);
}

async function attend() {
  const text = $("look-text").value;
  if (!text.trim()) return ($("attention-problem").textContent = "There is no sentence to look at yet.");
  $("attention-problem").textContent = "";
  $("attention").setAttribute("aria-busy", true);
  const asked = { model: model.name, text, target: $("look-target").value || null };
  const chosen = seen && { kind: $("attention-kind").value, layer: Number($("attention-layer").value) - 1 };
  await requests.attention.run(async (signal) => {
    seen = await ask("page/attention", { ...asked, ...chosen }, signal);
    fillChoices();
    showAttention();
  }, fail("attention-problem"));
  $("attention").removeAttribute("aria-busy");
}

/** What there is to choose, and what was chosen. */
function fillChoices() {
  const options = Object.keys(seen.kinds).map((value) => element("option", { value }, NAMES[value]));
  $("attention-kind").replaceChildren(...options);
  $("attention-kind").value = seen.kind;
  const layers = Array.from({ length: seen.kinds[seen.kind] }, (_, i) => String(i + 1));
  $("attention-layer").replaceChildren(...layers.map((value) => element("option", { value }, value)));
  $("attention-layer").value = String(seen.layer + 1);
}

const average = (heads) => heads[0].map((row, q) => row.map((_, k) => heads.reduce((sum, one) => sum + one[q][k], 0) / heads.length));

function showAttention() {
  $("attention").hidden = false;
  if (head !== null && head >= seen.heads.length) head = null;
  const all = [{ name: "Mean of the heads", rows: average(seen.heads), number: null }];
  seen.heads.forEach((rows, number) => all.push({ name: `Head ${number + 1}`, rows, number }));
  $("heads").replaceChildren(...all.map(thumbnail));
  showHead();
}

function thumbnail({ name, rows, number }) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  paint(canvas, rows, "amount", 0, 1);
  const onclick = () => {
    head = number;
    $("heads").querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", one === made));
    showHead();
  };
  const made = element("button", { type: "button", class: "thumbnail", "aria-pressed": String(number === head), onclick }, canvas, name);
  return made;
}

/** One head as a table: a row for each piece that looks, a column for each that is looked at, numbers in percent. */
function showHead() {
  const { rows, columns, heads, kind, layer } = seen;
  const weights = head === null ? average(heads) : heads[head];
  const which = head === null ? "mean of the heads" : `head ${head + 1}`;
  const top = element("tr", {}, element("td", {}), columns.map((text) => element("th", { scope: "col" }, element("span", {}, visible(text)))));
  const body = rows.map((text, q) =>
    element("tr", {}, element("th", { scope: "row" }, visible(text)), weights[q].map((weight) => cell(weight))),
  );
  $("about-head").textContent = `${NAMES[kind]}, layer ${layer + 1}, ${which}: a row looks at columns, in percent.`;
  $("head").replaceChildren(element("table", { class: "heat" }, element("thead", {}, top), element("tbody", {}, body)));
}

function cell(weight) {
  const rgb = colour("amount", weight);
  const made = element("td", {}, String(Math.round(100 * weight) || ""));
  made.style.backgroundColor = `rgb(${rgb.join(" ")})`;
  made.style.color = inkOn(rgb);
  return made;
}

const separate = (text) => text.split(/[\s,]+/).filter(Boolean);

async function findNeighbours() {
  $("neighbours-problem").textContent = "";
  const word = $("word").value.trim();
  if (!word) return ($("neighbours-problem").textContent = "There is no word to look for yet.");
  const asked = { model: model.name, word, plus: separate($("plus").value), minus: separate($("minus").value) };
  await requests.neighbours.run(async (signal) => {
    const { neighbours } = await ask("page/neighbours", asked, signal);
    $("neighbours").replaceChildren(...neighbours.map(neighbour));
  }, fail("neighbours-problem"));
}

function neighbour([word, similarity]) {
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", Math.max(0, similarity));
  return element("li", { class: "row" }, element("span", { class: "head" }, visible(word)), element("span", { class: "number" }, signed(similarity)), bar);
}

async function showPositions() {
  $("positions-problem").textContent = "";
  await requests.positions.run(async (signal) => {
    ({ tables } = await ask("page/positions", { model: model.name }, signal));
    drawPositions();
    if (!tables.length) $("positions-problem").textContent = "Only its mask tells this model where a token stands.";
  }, fail("positions-problem"));
}

/** Every table as a picture: places downwards, what they are told by to the right. */
function drawPositions() {
  $("positions").replaceChildren(...tables.flatMap(({ title, places, columns, width, values }) => {
    const limit = Math.max(...values.flat().map(Math.abs)) || 1;
    const shown = values[0].length < width ? `the first ${values[0].length} of ${width}` : String(width);
    const label = `${title}. Downwards: ${places[0]} to ${places.at(-1)}; to the right: ${columns}, ${shown}.`;
    const canvas = element("canvas", { class: "positions", role: "img", "aria-label": label });
    paint(canvas, values, "signed", -limit, limit);
    const scale = legend("signed", signed(-limit), signed(limit), "Value");
    return [element("figure", {}, canvas, element("figcaption", {}, label), scale)];
  }));
}

export function open(chosen) {
  if (model?.name === chosen.name) return;
  model = chosen;
  [seen, head] = [null, null];
  $("attention").hidden = true;
  for (const id of ["neighbours", "positions"]) $(id).replaceChildren();
  for (const id of ["attention-problem", "neighbours-problem"]) $(id).textContent = "";
  $("look-target").parentElement.hidden = !model.does.includes("translate");
  showPositions();
}

function onSubmit(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    work();
  });
}

export function start() {
  onSubmit("attention-form", attend);
  onSubmit("neighbours-form", findNeighbours);
  for (const id of ["attention-kind", "attention-layer"]) $(id).addEventListener("change", attend);
  $("attention-legend").replaceChildren(legend("amount", "0", "100 %", "Share of the attention"));
  drawn(() => {
    if (seen) showAttention();
    drawPositions();
  });
}
