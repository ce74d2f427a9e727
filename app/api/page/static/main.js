// Puts the page together: tabs, what is dropped or pasted, what is served.

import * as classify from "./classify.js";
import * as compare from "./compare.js";
import { $, plural } from "./dom.js";
import { ask, hasKey } from "./service.js";
import * as strip from "./strip.js";

const TABS = ["classify", "compare"];
const PARTS = { classify, compare };

let open = "classify";

function openTab(name, focus = false) {
  open = name;
  for (const tab of TABS) {
    const button = $(`tab-${tab}`);
    button.setAttribute("aria-selected", tab === name);
    button.tabIndex = tab === name ? 0 : -1;
    $(tab).hidden = tab !== name;
  }
  if (focus) $(`tab-${name}`).focus();
  history.replaceState(null, "", name === "classify" ? location.pathname : `#${name}`);
}

for (const tab of TABS) $(`tab-${tab}`).addEventListener("click", () => openTab(tab));
document.querySelector("[role=tablist]").addEventListener("keydown", ({ key }) => {
  if (key === "ArrowLeft" || key === "ArrowRight") openTab(TABS.find((tab) => tab !== open), true);
});
if (location.hash === "#compare") openTab("compare");

async function fetchSample(name) {
  const response = await fetch(`/static/samples/${name}`, { cache: "force-cache" }); // it is shown already
  return new File([await response.blob()], name, { type: "image/jpeg" });
}

for (const button of document.querySelectorAll("[data-sample]")) {
  const { sample } = button.dataset;
  button.addEventListener("click", async () => classify.add([await fetchSample(sample)], sample));
}

function take(files) {
  if (files.length) PARTS[open].add([...files]);
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("veil").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("veil").hidden = true;
});
addEventListener("drop", (event) => {
  $("veil").hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

let described = false;

async function describe() {
  if (described) return;
  const response = await ask("/info");
  if (!response.ok) return;
  const info = await response.json();
  described = true;
  const [{ name, engine, device }] = info.models;
  classify.setLimits(info.limits);
  strip.setLargestBatch(info.max_batch_size);
  const parts = [name, `${engine} on ${device}`, plural(info.threads, "thread"), `batches up to ${info.max_batch_size}`, `${info.name} ${info.version}`];
  $("served").textContent = parts.join(" · ");
  for (const link of ["link-info", "link-metrics"]) $(link).hidden = hasKey(); // a link sends none
}

classify.start();
compare.start(fetchSample);
strip.start();
// The strip tells of a service that cannot be reached, and when it can.
for (const event of ["load", "ready"]) addEventListener(event, () => describe().catch(() => {}));
