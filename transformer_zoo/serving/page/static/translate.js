// Translate: a text and its translation as one types, what else could stand for a word, and which words belong together.

import { $, debounced, element, fill, percent, roving, visible } from "./elements.js";
import { remember } from "./history.js";
import { Pieces, shadeLegend, textOf, words } from "./pieces.js";
import { Latest, Lost, lines } from "./server.js";

const PAUSE = 250; // milliseconds without a key before a text is translated
const SETTLED = 2500; // and before it is worth remembering
const CHOICES = 6;
const USUAL_BEST = 3; // translations, where the beam is as wide

const narrow = matchMedia("(max-width: 46rem)"); // as in style.css

const translation = new Latest();
const previews = new Latest();
let model = null;
let sentences = []; // what the server said of each, and where it is shown
let active = 0; // the sentence whose other translations are shown

const settings = () => ({
  model: model.name,
  source_lang: $("source-language").value || null,
  target_lang: $("target-language").value || null,
  beam: Number($("beam").value),
  n_best: Number($("n-best").value),
});

const whole = () => sentences.map(({ before, best }) => before + textOf(best[0].pieces)).join("");

function say(problem) {
  $("translate-problem").textContent = problem ?? "";
}

function busy() {
  $("target").setAttribute("aria-busy", translation.isRunning);
}

async function translate() {
  const text = $("source").value;
  previews.stop();
  if (!text.trim() || !model) return clear();
  say(null);
  nameLanguages();
  const running = translation.run((signal) => receive(text, signal), fail);
  busy();
  await running;
  busy();
}

function fail(error) {
  if (error instanceof Lost) return translate();
  clear();
  say(error.message);
}

/** Sentence after sentence takes the place of what stood there before. */
async function receive(text, signal) {
  let n = 0;
  active = 0;
  for await (const sentence of lines("page/translate", { ...settings(), text }, signal)) put(n++, sentence);
  for (const node of sentences.splice(n).flatMap(({ nodes }) => nodes)) {
    node.previousSibling.remove();
    node.remove();
  }
  $("target-said").textContent = whole();
  settle();
}

const settle = debounced(() => {
  const text = $("source").value.trim();
  if (text && !translation.isRunning && sentences.length) remember("translate", model.name, text, whole());
}, SETTLED);

function clear() {
  translation.stop();
  sentences = [];
  for (const id of ["target", "source-pieces", "others-list"]) $(id).replaceChildren();
  for (const id of ["others", "as-read"]) $(id).hidden = true;
  $("target-said").textContent = "";
  say(null);
  busy();
}

/** Shows a sentence in its place, anew where there is one already. */
function put(i, sentence) {
  if (!sentences[i]) {
    const nodes = [element("span", { class: "sentence" }), element("span", { class: "sentence" })];
    const read = new Pieces(nodes[0], { look: (place) => lookFromSource(i, place) });
    const written = new Pieces(nodes[1], {
      grouped: true,
      open: (place, node) => openAlternatives(i, place, node),
      look: (place) => lookFromTarget(i, place),
    });
    $("source-pieces").append("", nodes[0]);
    $("target").append("", nodes[1]);
    sentences[i] = { nodes, read, written };
  }
  Object.assign(sentences[i], sentence);
  sentences[i].read.show(sentence.source.map((text) => ({ text })));
  sentences[i].written.show(sentence.best[0].pieces);
  sentences[i].nodes.forEach((node) => (node.previousSibling.data = sentence.before));
  $("as-read").hidden = false;
  if (i === active) showOthers(i);
}

const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

function lookFromTarget(i, place) {
  if (place === null && $("alternatives").matches(":popover-open")) return; // as long as there is a choice
  const { read, written, best } = sentences[i];
  const { alignment } = best[0];
  const word = place === null ? null : words(written.pieces)[place];
  const rows = word && alignment.slice(word.start, word.end);
  read.mark(rows && read.pieces.map((_, column) => mean(rows.map((row) => row[column]))));
}

function lookFromSource(i, place) {
  const { written, best } = sentences[i];
  const { alignment } = best[0];
  const ofWord = ({ start, end }) => mean(alignment.slice(start, end).map((row) => row[place]));
  written.mark(place === null ? null : words(written.pieces).map(ofWord));
}

/** Other ways to go on at a word: at each of its pieces what else the model thought of, the likeliest beginnings first. */
function candidates(pieces, word) {
  const found = [];
  let reached = 1;
  for (let i = word.start; i < word.end; i++) {
    for (const other of pieces[i].alternatives) {
      if (other.id === pieces[i].id || other.text === "") continue; // it, or an end
      const prefix = [...pieces.slice(0, i), other];
      found.push({ prefix, text: textOf(prefix.slice(word.start)), probability: reached * other.probability });
    }
    reached *= pieces[i].probability;
  }
  return found.sort((a, b) => b.probability - a.probability).slice(0, CHOICES);
}

function openAlternatives(i, place, node) {
  const { written } = sentences[i];
  active = i;
  showOthers(i);
  const word = words(written.pieces)[place];
  const choices = candidates(written.pieces, word);
  const items = choices.map((choice) => alternative(choice, () => choose(i, place, choice)));
  $("alternatives-title").textContent = `Instead of “${visible(word.text)}”`;
  $("alternatives-list").replaceChildren(...items);
  const popover = $("alternatives");
  if (node.getBoundingClientRect().bottom > innerHeight / 2) node.scrollIntoView({ block: "center" }); // so that there is room
  const { left, bottom } = node.getBoundingClientRect();
  popover.style.setProperty("--left", `${left}px`);
  popover.style.setProperty("--top", `${bottom + 6}px`);
  popover.showPopover();
  if (narrow.matches) node.scrollIntoView(); // above the choices
  items[0]?.firstElementChild.focus();
  lookFromTarget(i, place); // for as long as the choices are there
  previews.run((signal) => preview(i, word, choices, items, signal), (error) => say(error.message));
}

function alternative({ text, probability }, onclick) {
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", probability);
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", class: "choice", onclick },
      element("span", { class: "head", dir: "auto" }, `${visible(text)}…`),
      element("span", { class: "number" }, percent(probability)),
      bar,
    ),
  );
}

/** The sentence that begins with a choice. */
async function begun(i, choice, signal) {
  const prefix = choice.prefix.map((piece) => piece.id);
  const asked = { ...settings(), text: sentences[i].text, prefix, n_best: 1 };
  for await (const sentence of lines("page/translate", asked, signal)) return sentence;
}

/** Writes behind each choice how the sentence would go on. */
async function preview(i, word, choices, items, signal) {
  for (const [n, choice] of choices.entries()) {
    choice.made = await begun(i, choice, signal);
    const { pieces } = choice.made.best[0];
    const first = words(pieces).find(({ end }) => end > word.start);
    const rest = element("span", { class: "rest" }, textOf(pieces.slice(first?.end ?? word.end)));
    items[n].querySelector(".head").replaceChildren(visible(first?.text ?? choice.text), rest);
  }
}

async function choose(i, place, choice) {
  $("alternatives").hidePopover();
  await translation.run(async (signal) => {
    const made = choice.made ?? (await begun(i, choice, signal));
    take(i, place, { ...made, before: sentences[i].before });
  }, fail);
}

/** Shows another translation of a sentence. */
function take(i, place, made) {
  put(i, made);
  $("target-said").textContent = whole();
  sentences[i].written.container.querySelector(`[data-place="${place}"]`)?.focus();
  settle();
}

/** The other translations of a sentence, best first; the one that is taken changes places with the first. */
function showOthers(i) {
  const { best, text } = sentences[i];
  $("others").hidden = best.length < 2;
  $("others-of").textContent = sentences.length > 1 ? `of “${text.trim()}”` : "";
  $("others-list").replaceChildren(...best.slice(1).map((other, n) => otherItem(i, other, n + 1)));
}

function otherItem(i, { pieces }, n) {
  const { best } = sentences[i];
  const others = best.filter((_, k) => k !== n);
  const onclick = () => take(i, 0, { ...sentences[i], best: [best[n], ...others] });
  const probability = pieces.reduce((product, piece) => product * piece.probability, 1);
  const number = element("span", { class: "number", title: "probability of the whole" }, percent(probability));
  const text = element("span", { class: "head", dir: "auto" }, textOf(pieces));
  return element("li", {}, element("button", { type: "button", class: "choice", onclick }, text, number));
}

/** Shows what there is to choose of a model; a text that is there is translated by it. */
export function open(chosen) {
  if (model?.name !== chosen.name) {
    $("beam").value = chosen.beam;
    $("n-best").value = Math.min(chosen.beam, USUAL_BEST);
  }
  model = chosen;
  fill($("source-language"), model.sources, model.source);
  fill($("target-language"), model.targets, model.target);
  translate();
}

/** Says which languages the texts are in, for those who hear them. */
function nameLanguages() {
  const tag = (languages, select, usual) => (languages.find(({ code }) => code === select.value) ?? usual)?.tag ?? "";
  for (const id of ["source", "source-pieces"]) $(id).lang = tag(model.sources, $("source-language"), model.source);
  for (const id of ["target", "target-said", "others-list", "alternatives-list"]) {
    $(id).lang = tag(model.targets, $("target-language"), model.target);
  }
}

/** Takes up an old text. */
export function reuse(text) {
  $("source").value = text;
  $("source").focus();
  translate();
}

export function start() {
  const soon = debounced(translate, PAUSE);
  $("source").addEventListener("input", soon);
  for (const id of ["source-language", "target-language", "beam", "n-best"]) $(id).addEventListener("change", translate);
  $("translate-legend").replaceChildren(shadeLegend());
  roving($("alternatives-list"), ".choice", { vertical: true });
  $("alternatives").addEventListener("toggle", (event) => {
    if (event.newState === "closed") sentences.forEach((_, i) => lookFromTarget(i, null));
    if (event.newState === "closed") previews.stop();
  });
  $("copy").hidden = !navigator.clipboard;
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(whole());
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  });
}
