// The strip: the service's last minute, a column a second.

import { $, el, svg } from "./dom.js";
import { watch } from "./live.js";
import { askKey } from "./service.js";

const SECONDS = 60;
const HEIGHT = 20;
const MOST_ROWS = 5;

let kept = [];
let sizes = ["1", "2", "4", "8"]; // of batches, a row each; larger ones are in the last row
let row = HEIGHT / sizes.length;
let watching = null;

const charts = {};
for (const name of ["rate", "waiting", "refused"]) {
  charts[name] = svg("path", { class: "column" });
  $(`${name}-chart`).append(charts[name]);
}
const levels = ["few", "some", "most"].map((name) => svg("path", { class: name }));
const lines = svg("path", { class: "ground" });
$("size-chart").append(lines, ...levels);

/** A row for each power of two, up to the largest batch that there can be. */
export function setLargestBatch(largest) {
  const rows = Math.min(MOST_ROWS, Math.ceil(Math.log2(largest)) + 1);
  sizes = Array.from({ length: rows }, (_, power) => `${2 ** power}`);
  row = HEIGHT / rows;
  lines.setAttribute("d", sizes.slice(1).map((_, above) => `M0 ${(above + 1) * row}h${SECONDS}`).join(""));
  const top = largest > sizes.at(-1) ? `${sizes.at(-1)}+` : `${largest}`;
  const names = [...sizes.slice(0, -1), top].reverse();
  $("size-rows").replaceChildren(...names.map((name) => el("i", { textContent: name })));
}

export function start() {
  $("ask-key").addEventListener("click", () => askKey(false));
  addEventListener("key", connect);
  document.addEventListener("visibilitychange", connect);
  setLargestBatch(8);
  connect();
}

/** Watch while somebody sees it. */
function connect() {
  watching?.abort();
  if (document.hidden) return;
  watching = new AbortController();
  watch(watching.signal, add, tell);
}

function tell(state, text) {
  const link = $("link");
  link.dataset.state = state;
  if (link.textContent !== text) link.textContent = text;
  $("ask-key").hidden = state !== "key";
}

function add(snapshot) {
  const last = kept.at(-1);
  if (snapshot.ready && !last?.ready) dispatchEvent(new Event("ready"));
  if (last && last.at - snapshot.at > SECONDS) kept = []; // the service's clock was set back
  else if (last && snapshot.at <= last.at) return; // a new stream begins with the last minute
  kept = [...kept, snapshot].filter((one) => snapshot.at - one.at < SECONDS);
  tell(snapshot.ready ? "live" : "wait", snapshot.ready ? "the last minute" : "not ready");
  draw(snapshot);
}

function draw(now) {
  const recent = kept.filter((one) => now.at - one.at < 5);
  const seconds = sum(recent, (one) => one.seconds);
  const rate = seconds ? sum(recent, (one) => one.requests) / seconds : 0;
  $("rate").textContent = rate && rate < 9.95 ? rate.toFixed(1) : rate.toFixed(0);
  const batches = sum(recent, (one) => sum(Object.values(one.batches), Number));
  const images = sum(recent, (one) => one.images);
  $("size").textContent = batches ? (images / batches).toFixed(1) : "–";
  $("waiting").textContent = now.waiting;
  const refused = sum(kept, (one) => one.refused);
  $("refused").textContent = refused;
  $("refused").classList.toggle("alarm", refused > 0);
  columns("rate", now, (one) => (one.seconds ? one.requests / one.seconds : 0), 10);
  columns("waiting", now, (one) => one.waiting, 8);
  columns("refused", now, (one) => one.refused, 10);
  cells(now);
}

const sum = (list, value) => list.reduce((total, one) => total + value(one), 0);

const place = (now, one) => SECONDS - 1 - Math.round(now.at - one.at);

function columns(name, now, value, least) {
  const highest = Math.max(least, ...kept.map(value));
  const bars = kept.filter(value).map((one) => {
    const height = Math.max(1, (value(one) / highest) * HEIGHT);
    return `M${place(now, one)} ${HEIGHT}v-${height}h.75v${height}z`;
  });
  charts[name].setAttribute("d", bars.join(""));
}

/** Where the pictures of a second were computed: the darker, the more of them in such batches. */
function cells(now) {
  const drawn = levels.map(() => "");
  for (const one of kept) {
    const rows = sizes.map(() => 0);
    for (const [size, count] of Object.entries(one.batches)) {
      const at = sizes.indexOf(size);
      rows.splice(at, 1, rows.at(at) + count * (Number(size) || 2)); // -1 is the last one
    }
    const all = sum(rows, Number);
    rows.forEach((share, at) => {
      if (!share) return;
      const level = share > all / 2 ? 2 : share > all / 5 ? 1 : 0;
      drawn[level] += `M${place(now, one)} ${HEIGHT - at * row - 0.5}v${1 - row}h.75v${row - 1}z`;
    });
  }
  levels.forEach((path, level) => path.setAttribute("d", drawn[level]));
}
