// Asking the service: keys, refusals, and how many requests at once.

import { $ } from "./dom.js";

const KEY = "mobilenet-key";
const AT_ONCE = 5; // a browser has six connections to a host, and one is watching
const TRIES = 20;

/** An error whose message is a sentence for people. */
export class Problem extends Error {}

/** There is no key, or a wrong one. */
export class NoKey extends Problem {}

let asking = null;

/** Ask for a key; true when there is one. Whoever asks meanwhile shares the dialog. */
export function askKey(refused = Boolean(sessionStorage.getItem(KEY))) {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    $("key-why").textContent = refused
      ? "That key was not accepted. Is it complete?"
      : "It is kept in this tab, until you close it.";
    $("key").value = "";
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, $("key").value.trim());
      dialog.close("given");
    };
    $("key-later").onclick = () => dialog.close("");
    dialog.onclose = () => {
      asking = null;
      if (dialog.returnValue === "given") dispatchEvent(new Event("key"));
      resolve(dialog.returnValue === "given");
    };
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

/** fetch, with the key; a 401 asks for one and tries again, unless `quietly`. */
export async function ask(path, options = {}, quietly = false) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service cannot be reached.");
    }
    if (response.status !== 401) return response;
    // Another request may have been given one meanwhile.
    if (key !== sessionStorage.getItem(KEY)) continue;
    if (quietly || !(await askKey(Boolean(key)))) throw new NoKey(await sentence(response));
  }
}

/** Whether a key is stored: the curl line needs one then. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** The sentence of a problem document. */
export async function sentence(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `The service answered ${response.status}.`;
  }
}

export const retryAfter = (response) => Number(response.headers.get("Retry-After"));

let running = 0;
let freeAt = 0; // nobody is asked before: the last answer said so
const queue = [];

/** Run work when it is its turn. */
function inTurn(work) {
  return new Promise((resolve, reject) => {
    queue.push(() => work().then(resolve, reject));
    next();
  });
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    queue.shift()().finally(() => {
      running -= 1;
      next();
    });
  }
}

const sleep = (duration) => new Promise((resolve) => setTimeout(resolve, duration));

/** Send one image; a service that is busy says when to come again.
 *
 * `tell` is told what happens: "asking", or "busy" with the seconds until the next try.
 */
export function send(path, file, { signal, tell = () => {} } = {}) {
  return inTurn(async () => {
    for (let tries = 1; ; tries += 1) {
      while (Date.now() < freeAt) await sleep(freeAt - Date.now());
      signal?.throwIfAborted();
      tell("asking");
      const body = new FormData();
      body.append("file", file, "picture");
      const response = await ask(path, { method: "POST", body, signal });
      if (response.ok) {
        return { ...(await response.json()), cache: response.headers.get("X-Cache") };
      }
      const wait = Math.min(retryAfter(response), 60);
      if (!wait || tries === TRIES) throw new Problem(await sentence(response));
      tell("busy", wait);
      freeAt = Math.max(freeAt, Date.now() + wait * 1000);
    }
  });
}
