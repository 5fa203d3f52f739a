// What everything on the page is made with. A string becomes a text node: no text is ever read as markup.

export const $ = (id) => document.getElementById(id);

/** An element; `onclick` and the like are listeners, true and false set and leave out an attribute. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat());
  return made;
}

/** The work, once nobody has asked for it for so many milliseconds. */
export function debounced(work, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

/** A probability for people: 0.8712 is "87 %", small and nearly certain ones have one more digit. */
export function percent(probability) {
  if (probability < 0.0005) return "< 0.1 %";
  const digits = probability < 0.1 || (probability > 0.99 && probability < 0.9995) ? 1 : 0;
  return `${(100 * probability).toFixed(digits)} %`;
}

/** What a piece of text looks like where it stands alone: white space gets a sign. */
export const visible = (text) => text.trim() || text.replaceAll(" ", "·").replaceAll("\t", "⇥").replace(/\s/g, "↵") || "∅";

/** A number with a real minus. */
export const signed = (number) => number.toFixed(2).replace("-", "−");

/** Languages to choose from; the one that was chosen stays so if it is still there. */
export function fill(select, languages, usual) {
  const codes = languages.map(({ code }) => code);
  const chosen = codes.includes(select.value) ? select.value : (usual?.code ?? codes[0] ?? "");
  select.replaceChildren(...languages.map(({ code, name }) => element("option", { value: code }, name)));
  select.value = chosen;
  select.parentElement.hidden = languages.length === 0;
}

/** Arrow keys, Home and End move the focus among the elements of a container, which is one stop of the tab key. */
export function roving(container, selector, { vertical = false } = {}) {
  const [forward, backward] = vertical ? ["ArrowDown", "ArrowUp"] : ["ArrowRight", "ArrowLeft"];
  container.addEventListener("keydown", (event) => {
    const all = [...container.querySelectorAll(selector)];
    const here = all.indexOf(event.target.closest(selector));
    const next = { [forward]: here + 1, [backward]: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (here < 0 || next === undefined) return;
    event.preventDefault();
    all[Math.max(0, Math.min(next, all.length - 1))].focus();
  });
  container.addEventListener("focusin", (event) => {
    const chosen = event.target.closest(selector);
    if (!chosen) return;
    container.querySelectorAll(selector).forEach((one) => one.setAttribute("tabindex", one === chosen ? 0 : -1));
  });
}
