// The page: which tabs there are, which model answers, and whether the server is there.

import { $, element, roving } from "./elements.js";
import { onReuse } from "./history.js";
import * as look from "./look.js";
import { ask, connection, lookNow } from "./server.js";
import * as translate from "./translate.js";
import * as write from "./write.js";

const TABS = { translate, write, look };
const BACK = 4000; // milliseconds for which it is said that the server is back

let models = [];
let tab = null;
const chosen = {}; // the model of each tab

const able = (name) => models.filter((model) => model.does.includes(name));

/** Opens a tab with the model that was chosen there, or the first that can do it. */
function open(name) {
  tab = name;
  for (const other of Object.keys(TABS)) {
    $(`tab-${other}`).setAttribute("aria-selected", other === name);
    $(`tab-${other}`).tabIndex = other === name ? 0 : -1;
    $(other).hidden = other !== name;
  }
  const possible = able(name);
  const model = possible.find((one) => one.name === chosen[name]) ?? possible[0];
  $("model").replaceChildren(...possible.map((one) => element("option", { value: one.name }, one.name)));
  $("model").value = model.name;
  TABS[name].open(model);
}

function go(name) {
  if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  open(name);
}

/** Asks which models there are and shows the tabs of what they can do. */
async function refresh() {
  ({ models } = await ask("page/models"));
  const possible = Object.keys(TABS).filter((name) => able(name).length);
  for (const name of Object.keys(TABS)) $(`tab-${name}`).hidden = !possible.includes(name);
  const wanted = [tab, location.hash.slice(1), possible[0]].find((name) => possible.includes(name));
  if (wanted) open(wanted);
  else $("starting").textContent = "No model that is loaded translates or writes; the other addresses of this server answer.";
  $("starting").hidden = wanted !== undefined;
}

function watch() {
  const banner = $("banner");
  connection.addEventListener("lost", () => {
    banner.dataset.state = "lost";
    $("banner-text").textContent = "The server does not answer. The page looks for it and continues as soon as it is back.";
    $("retry").hidden = false;
  });
  connection.addEventListener("back", () => {
    banner.dataset.state = "back";
    $("banner-text").textContent = "The server is back.";
    $("retry").hidden = true;
    setTimeout(() => {
      if (banner.dataset.state === "back") delete banner.dataset.state;
    }, BACK);
    if (models.length) refresh().catch(() => {}); // it may have other models now
  });
  $("retry").addEventListener("click", lookNow);
}

function start() {
  watch();
  roving($("tabs"), "[role=tab]:not([hidden])");
  for (const [name, part] of Object.entries(TABS)) {
    part.start();
    $(`tab-${name}`).addEventListener("click", () => go(name));
  }
  addEventListener("hashchange", () => able(location.hash.slice(1)).length && open(location.hash.slice(1)));
  $("model").addEventListener("change", () => {
    chosen[tab] = $("model").value;
    open(tab);
  });
  onReuse((entry) => {
    if (!(entry.tab in TABS) || !able(entry.tab).length) return;
    if (able(entry.tab).some((model) => model.name === entry.model)) chosen[entry.tab] = entry.model;
    go(entry.tab);
    TABS[entry.tab].reuse(entry.text);
  });
  refresh().catch((error) => ($("starting").textContent = error.message));
}

start();
