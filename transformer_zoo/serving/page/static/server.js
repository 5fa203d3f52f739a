// How the page asks the server: one request after another, again once a lost server is back, with a key where one is asked for.

import { $ } from "./elements.js";

const UNREACHABLE = [502, 504]; // what a proxy says of a server that is not there
const LONGEST_WAIT = 8000; // milliseconds between two looks for a lost server

/** The server's own reason, one line. */
export class Refused extends Error {}

/** The server went away in the middle of an answer. */
export class Lost extends Error {}

/** "lost" and "back". */
export const connection = new EventTarget();

let key = ""; // as long as the page is there, and nowhere else
let searching = null; // a promise while the server is lost
let wake = () => {};

/** Looks for the server at once. */
export const lookNow = () => wake();

async function search() {
  connection.dispatchEvent(new Event("lost"));
  for (let wait = 500; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, wait);
    });
    try {
      if ((await fetch("healthz", { cache: "no-store" })).ok) break;
    } catch {
      continue;
    }
  }
  searching = null;
  connection.dispatchEvent(new Event("back"));
}

/** Waits until a lost server answers again, or nobody wants it any more. */
function returned(signal) {
  signal?.throwIfAborted();
  searching ??= search();
  return new Promise((resolve, reject) => {
    searching.then(resolve);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
}

/** Asks for a key; says so where one was given already. */
function askForKey() {
  const dialog = $("key-dialog");
  $("key-problem").textContent = key && "The server does not know this key.";
  return new Promise((resolve, reject) => {
    const submitted = (event) => {
      event.preventDefault();
      key = $("key").value.trim();
      dialog.close("given");
    };
    const closed = () => {
      $("key-form").removeEventListener("submit", submitted);
      dialog.returnValue === "given" ? resolve() : reject(new Refused("this server needs a key"));
    };
    dialog.returnValue = "";
    $("key-form").addEventListener("submit", submitted);
    dialog.addEventListener("close", closed, { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

function request(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body === undefined) return fetch(path, { headers, signal, cache: "no-store" });
  return fetch(path, { method: "POST", headers, signal, body: JSON.stringify(body) });
}

async function reason(response) {
  try {
    const said = await response.json();
    return said.error ?? response.statusText;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

async function answer(path, body, signal) {
  for (;;) {
    const response = await request(path, body, signal).catch((error) => {
      if (signal?.aborted) throw error;
    });
    if (!response || UNREACHABLE.includes(response.status)) await returned(signal);
    else if (response.status === 401) await askForKey();
    else if (!response.ok) throw new Refused(await reason(response));
    else return response;
  }
}

/** One answer. Without a body it is a GET. */
export async function ask(path, body, signal) {
  return (await answer(path, body, signal)).json();
}

/** An answer that comes line by line. */
export async function* lines(path, body, signal) {
  const response = await answer(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw signal?.aborted ? error : new Lost("the server went away in the middle of its answer");
      });
      const whole = (rest + (value ?? "")).split("\n");
      rest = whole.pop();
      for (const line of whole) {
        const said = JSON.parse(line);
        if (said.error) throw new Refused(said.error);
        yield said;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Requests of one kind, of which only the last counts: a new one breaks off the one before. */
export class Latest {
  #running = null;

  /** Runs `work(signal)`; what is broken off ends without a word, anything else that goes wrong goes to `fail`. Whether it was the last. */
  async run(work, fail) {
    this.stop();
    const mine = (this.#running = new AbortController());
    try {
      await work(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) fail(error);
    } finally {
      if (this.#running === mine) this.#running = null;
    }
    return !mine.signal.aborted;
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  get isRunning() {
    return this.#running !== null;
  }
}
