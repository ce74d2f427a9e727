// GET /live, read with fetch: an EventSource cannot send a key.

import { ask, NoKey, retryAfter, sentence } from "./service.js";

const SILENT_MS = 5000;
const LONGEST_WAIT_S = 30;

/** Watch until aborted: `onSnapshot` gets each, `onState` a state and its sentence. */
export async function watch(signal, onSnapshot, onState) {
  let wait = 1;
  const seen = () => (wait = 1);
  while (!signal.aborted) {
    try {
      wait = Math.max(wait, await read(signal, onSnapshot, onState, seen));
      onState("wait", "connecting again");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof NoKey) {
        onState("key", "needs a key");
        return;
      }
      onState("wait", "not connected; trying again");
    }
    await new Promise((resolve) => {
      setTimeout(resolve, wait * 1000);
      signal.addEventListener("abort", resolve, { once: true });
    });
    wait = Math.min(2 * wait, LONGEST_WAIT_S);
  }
}

/** Read one stream to its end; gives the seconds to wait before the next. */
async function read(signal, onSnapshot, onState, seen) {
  const silence = new AbortController();
  const both = AbortSignal.any([signal, silence.signal]);
  const options = { headers: { Accept: "text/event-stream" }, signal: both };
  const response = await ask("/live", options, true); // the strip has a button for the key
  if (!response.ok) {
    onState("wait", await sentence(response));
    return retryAfter(response) || 1;
  }
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENT_MS);
  };
  heard();
  try {
    for await (const data of events(response.body)) {
      heard();
      seen();
      onSnapshot(JSON.parse(data));
    }
  } finally {
    clearTimeout(timer);
  }
  return 1;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
