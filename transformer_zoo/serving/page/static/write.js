// Write: a text that goes on, piece by piece; at any place what else was likely, and another way from there.

import { $, element, percent, roving, visible } from "./elements.js";
import { remember } from "./history.js";
import { Pieces, shadeLegend, textOf } from "./pieces.js";
import { Latest, ask, lines } from "./server.js";

const OPTIONAL = ["top_k", "top_p", "min_p", "repetition_penalty", "seed"]; // left empty: not done
const ENDS = { length: "It reached the length limit.", eos: "The model ended the text.", stop: "It reached a text that ends it." };

const writing = new Latest();
const looking = new Latest();
let model = null;
let text; // the Pieces of the prompt and of what was written
let opening = []; // tokens before the first piece, which have no text
let held = []; // tokens after the last that are no whole character yet

const ids = (pieces) => [...opening, ...pieces.flatMap((piece) => piece.ids)];

function sampling() {
  const chosen = { temperature: Number($("temperature").value), max_new_tokens: Number($("max_new_tokens").value) };
  for (const name of OPTIONAL) if ($(name).value !== "") chosen[name] = Number($(name).value);
  return chosen;
}

function say(problem, note = "") {
  $("write-problem").textContent = problem ?? "";
  $("write-note").textContent = note;
}

function busy() {
  $("written").setAttribute("aria-busy", writing.isRunning);
  $("write-stop").hidden = !writing.isRunning;
  $("write-on").hidden = writing.isRunning || text.pieces.length === 0;
}

/** Writes on after `given`: {text}, a new beginning, or {ids}, what stands there. */
async function write(given) {
  looking.stop();
  hideNext();
  say(null);
  const running = writing.run((signal) => receive(given, signal), (error) => say(error.message));
  busy();
  await running;
  busy();
  settle();
}

async function receive(given, signal) {
  const asked = { model: model.name, ...given, ...sampling() };
  let heard = 0; // pieces that were read out
  for await (const said of lines("page/write", asked, signal)) {
    if (said.given) begin(said.given);
    else add(said);
    if (said.end) say(null, ENDS[said.end]);
    if (said.end || /[.!?\n]\s*$/.test(said.text)) {
      $("written-said").textContent = textOf(text.pieces.slice(heard));
      heard = text.pieces.length;
    }
  }
}

function begin(pieces) {
  const first = pieces.findIndex((piece) => piece.text !== "");
  const known = first < 0 ? pieces.length : first;
  opening = pieces.slice(0, known).map((piece) => piece.id);
  held = [];
  text.show([]);
  pieces.slice(known).forEach((piece) => add({ tokens: [piece.id], text: piece.text, isGiven: true }));
}

/** Shows one more piece; one that has no text yet waits for the next. */
function add({ tokens, text: written, isGiven }) {
  held.push(...tokens);
  if (written === "") return;
  text.add({ ids: held, text: written, isGiven });
  held = [];
}

/** What is to be seen once nothing is written any more: how likely each piece was, and what could come next. */
async function settle() {
  if (!text.pieces.length) return;
  remember("write", model.name, $("prompt").value, textOf(text.pieces));
  const noProbabilities = (error) => say(null, error.message);
  if (await looking.run(shadeAll, noProbabilities)) await next(text.pieces.length);
}

async function shadeAll(signal) {
  const { probabilities } = await ask("page/probabilities", { model: model.name, ids: ids(text.pieces) }, signal);
  let place = opening.length;
  for (const piece of text.pieces) {
    const own = probabilities.slice(place, (place += piece.ids.length));
    if (!piece.isGiven) piece.probability = own.reduce((product, one) => product * one, 1);
  }
  text.show(text.pieces);
}

function hideNext() {
  $("next").hidden = true;
  $("written").querySelectorAll("[aria-pressed]").forEach((node) => node.removeAttribute("aria-pressed"));
}

/** The most likely tokens at a position of the text. */
async function next(place, node) {
  hideNext();
  node?.setAttribute("aria-pressed", true);
  const before = text.pieces.slice(0, place);
  await looking.run(
    async (signal) => {
      const { tokens } = await ask("page/next", { model: model.name, ids: ids(before) }, signal);
      const here = text.pieces[place]?.ids[0];
      $("next-list").replaceChildren(...tokens.map((token) => choice(token, token.id === here, () => choose(place, token))));
      $("next-where").textContent = before.length ? `after “…${textOf(before).slice(-24)}”` : "at the beginning";
      $("next").hidden = false;
      if (node) $("next-list").querySelector("button").focus();
    },
    (error) => say(error.message),
  );
}

function choice({ text: token, probability }, isHere, onclick) {
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", probability);
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", class: "choice", "aria-current": String(isHere), onclick },
      element("span", { class: "head" }, visible(token)),
      element("span", { class: "number" }, percent(probability)),
      bar,
    ),
  );
}

/** Goes back to a place, takes another token there, and writes on or waits at the next. */
async function choose(place, token) {
  writing.stop();
  held = [];
  text.show(text.pieces.slice(0, place));
  add({ tokens: [token.id], text: token.text });
  if ($("goes-on").checked) await write({ ids: [...ids(text.pieces), ...held] });
  else await settle();
}

export function open(chosen) {
  if (model && model.name !== chosen.name) clear();
  model = chosen;
  busy();
}

function clear() {
  writing.stop();
  looking.stop();
  text.show([]);
  hideNext();
  say(null);
}

/** Takes up an old prompt. */
export function reuse(prompt) {
  clear();
  $("prompt").value = prompt;
  $("prompt").focus();
  busy();
}

export function start() {
  text = new Pieces($("written"), { open: next });
  $("write-legend").replaceChildren(shadeLegend());
  roving($("next-list"), ".choice", { vertical: true });
  $("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    write({ text: $("prompt").value });
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("write-form").requestSubmit();
  });
  $("write-stop").addEventListener("click", () => {
    writing.stop();
    busy();
    $("write-on").focus();
  });
  $("write-on").addEventListener("click", () => write({ ids: ids(text.pieces) }));
  const shown = () => ($("temperature-shown").value = Number($("temperature").value).toFixed(2));
  $("temperature").addEventListener("input", shown);
  shown();
}
