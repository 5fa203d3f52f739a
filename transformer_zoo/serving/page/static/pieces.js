// Text as a model writes it: pieces, each with its probability as a shade, that can be hovered, walked through and opened.

import { element, percent, roving, visible } from "./elements.js";

const UNSURE = [0.9, 0.5, 0.2, 0.05]; // below each the shade is one step stronger
const AMOUNTS = [0.05, 0.15, 0.35, 0.6]; // above each likewise

/** The class of a probability, from unsure-0, which has no shade, to unsure-4. */
export const shade = (probability) => `unsure-${UNSURE.filter((limit) => probability < limit).length}`;

const amount = (weight) => AMOUNTS.filter((limit) => weight >= limit).length;

/** Whether a text is a sign that stands beside words: not what is within some. */
const isSign = (text) => /^\s*[^\p{L}\p{M}\p{N}\s'’‐-]+\s*$/u.test(text ?? "");

/** Pieces as words, each with the white space before it, and signs. The end of the text, which has no text, is in none. */
export function words(pieces) {
  const found = [];
  const end = pieces.findLastIndex((piece) => piece.text !== "") + 1;
  pieces.slice(0, end).forEach((piece, i) => {
    const last = found.at(-1);
    const begins = /^\s/.test(piece.text) || /\s$/.test(last?.text) || isSign(piece.text) || isSign(last?.text);
    if (last && !(begins && last.text.trim())) Object.assign(last, { end: i + 1, text: last.text + piece.text });
    else found.push({ start: i, end: i + 1, text: piece.text });
  });
  return found;
}

export const textOf = (pieces) => pieces.map((piece) => piece.text).join("");

/** A run of pieces as nodes: white space before it, which nobody can click, and a button of shaded spans. */
function button(pieces, place, description) {
  const text = textOf(pieces);
  const before = text.trim() ? text.match(/^\s*/)[0] : "";
  let hidden = before.length; // characters that stand before the button
  const spans = pieces.map(({ text: own, probability }) => {
    const known = probability != null;
    const shown = own.slice(Math.min(hidden, own.length));
    hidden -= own.length - shown.length;
    const kind = `${known ? shade(probability) : "given"} ${shown.trim() ? "" : "blank"}`;
    return element("span", { class: kind, title: known ? percent(probability) : null }, shown.replaceAll("\n", "↵\n"));
  });
  const label = `${visible(text)}${description}`;
  const attributes = { class: "word", role: "button", tabindex: -1, "data-place": place, "aria-label": label };
  return [before, element("span", attributes, spans)];
}

/** Shows pieces in a container and says which was opened or looked at. */
export class Pieces {
  /** `open(place, node)` and `look(place or null)`; with `grouped`, places are words, else pieces. */
  constructor(container, { grouped = false, open = () => {}, look = () => {} } = {}) {
    Object.assign(this, { container, grouped, pieces: [] });
    roving(container, ".word");
    const placeOf = (event) => event.target.closest(".word");
    const opened = (event) => placeOf(event) && open(Number(placeOf(event).dataset.place), placeOf(event));
    const looked = (event) => look(placeOf(event) ? Number(placeOf(event).dataset.place) : null);
    container.addEventListener("click", opened);
    container.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      opened(event);
    });
    for (const name of ["pointerover", "focusin"]) container.addEventListener(name, looked);
    for (const name of ["pointerleave", "focusout"]) container.addEventListener(name, () => look(null));
  }

  show(pieces) {
    const focused = this.container.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    this.container.replaceChildren();
    this.pieces = [];
    if (this.grouped) {
      this.pieces = pieces;
      words(pieces).forEach((word, i) => this.#append(pieces.slice(word.start, word.end), i));
    } else pieces.forEach((piece) => this.add(piece));
    if (focused !== null) this.container.querySelector(`[data-place="${focused}"]`)?.focus();
  }

  add(piece) {
    this.#append([piece], this.pieces.length);
    this.pieces.push(piece);
  }

  #append(pieces, place) {
    if (textOf(pieces) === "") return; // an end, a tag, half a character
    const known = pieces.map((piece) => piece.probability).filter((value) => value != null);
    const said = known.length ? `, ${percent(known.reduce((product, value) => product * value, 1))}` : "";
    this.container.append(...button(pieces, place, said));
    this.container.querySelector(".word").tabIndex = 0;
  }

  /** Marks by how much each place is looked at; null marks none. */
  mark(weights) {
    for (const node of this.container.querySelectorAll(".word")) {
      node.dataset.amount = weights ? amount(weights[node.dataset.place]) : 0;
    }
  }
}

/** What the shades mean. */
export function shadeLegend() {
  const names = ["over 90 %", "over 50 %", "over 20 %", "over 5 %", "less"];
  const samples = names.map((name, i) => element("span", { class: `sample unsure-${i}` }, name));
  return element("p", { class: "legend" }, element("span", {}, "Probability"), samples);
}
