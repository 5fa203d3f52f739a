// What was translated and written, kept in this browser only.

import { $, element } from "./elements.js";

const KEY = "transformer-zoo history";
const LONGEST = 40;

function kept() {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY)) ?? [];
    return entries.filter((entry) => typeof entry?.text === "string" && typeof entry?.answer === "string");
  } catch {
    return []; // storage is off, or somebody else wrote there
  }
}

function keep(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries));
  } catch {
    return; // full, or off: the page works without
  }
}

/** Keeps a text and its answer, in place of what it grew from. */
export function remember(tab, model, text, answer) {
  const others = kept().filter((entry) => !(entry.tab === tab && (text.startsWith(entry.text) || entry.text === text)));
  keep([{ tab, model, text, answer }, ...others].slice(0, LONGEST));
  showHistory();
}

let reuse = () => {};

/** `again(entry)` is called when somebody takes an entry up. */
export function onReuse(again) {
  reuse = again;
  $("forget").addEventListener("click", () => {
    keep([]);
    showHistory();
    $("history-summary").focus();
  });
  showHistory();
}

function showHistory() {
  const entries = kept();
  $("history").hidden = entries.length === 0;
  $("history-entries").replaceChildren(
    ...entries.map((entry) =>
      element(
        "li",
        {},
        element(
          "button",
          { type: "button", class: "entry", onclick: () => reuse(entry) },
          element("span", { class: "model" }, String(entry.model)),
          element("span", { dir: "auto" }, entry.text),
          element("span", { class: "answer", dir: "auto" }, entry.answer),
        ),
      ),
    ),
  );
}
