// The first tab: pictures come in, answers fill the page.

import { $, el, ms, percent, splitLabel } from "./dom.js";
import { photo, show } from "./result.js";
import { send } from "./service.js";

const MOST = 500;
const MEBI = 2 ** 20;

let pictures = [];
let chosen = null;
let leaving = new AbortController();
let maxBytes = Infinity;

const path = () => `/classify?top_k=${$("top-k").value}`;

export function setLimits(limits) {
  maxBytes = limits.max_body_mib * MEBI;
}

export function start() {
  for (const [button, input] of [["choose", "files"], ["photograph", "camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      add([...$(input).files]);
      $(input).value = ""; // the same file may be chosen again
    });
  }
  $("clear").addEventListener("click", clear);
  $("top-k").addEventListener("change", () => chosen && choose(chosen));
  $("grid").addEventListener("keydown", moveFocus);
}

/** Take pictures in; `sample` is the name of one of the service's own. */
export function add(files, sample) {
  const added = files.slice(0, MOST - pictures.length).map((file) => ({ file, sample, url: URL.createObjectURL(file) }));
  if (!added.length) return;
  pictures.push(...added);
  document.body.classList.add("busy-page");
  for (const id of ["top-k-option", "clear"]) $(id).hidden = false;
  for (const picture of added) {
    picture.askAgain = () => {
      picture.problem = null;
      classify(picture);
    };
    picture.card = card(picture);
    $("grid").append(el("li", {}, picture.card));
  }
  $("many").hidden = pictures.length < 2;
  document.body.classList.toggle("many-page", pictures.length > 1);
  choose(added[0]);
  for (const picture of added) classify(picture);
}

function clear() {
  leaving.abort();
  leaving = new AbortController();
  for (const { url } of pictures) URL.revokeObjectURL(url);
  pictures = [];
  chosen = null;
  $("grid").replaceChildren();
  $("stage").replaceChildren();
  for (const id of ["stage", "many", "top-k-option", "clear"]) $(id).hidden = true;
  document.body.classList.remove("busy-page", "many-page");
  $("choose").focus();
}

async function classify(picture) {
  const { signal } = leaving;
  const asked = path();
  const tell = (state, seconds) => {
    picture.busy = state === "busy" ? seconds : 0;
    picture.asking = state === "asking";
    update(picture);
  };
  try {
    if (picture.file.size > maxBytes) throw new Error(tooLarge(picture.file));
    picture.answer = await send(asked, picture.file, { signal, tell });
    picture.problem = null;
  } catch (error) {
    if (signal.aborted) return;
    picture.problem = error.message;
    picture.answer = null;
  }
  picture.asked = asked;
  picture.asking = false;
  if (signal.aborted) return;
  update(picture);
  if (picture === chosen) $("said").textContent = picture.problem ?? spoken(picture.answer);
  // The number of classes may have been changed while the answer was on its way.
  if (picture === chosen && picture.answer && asked !== path()) classify(picture);
}

/** The answer for who does not see the bars. */
const spoken = ({ predictions }) => predictions.map(({ label, score }) => `${splitLabel(label)[0]}, ${percent(score)}`).join("; ");

const tooLarge = ({ size }) =>
  `The file has ${(size / MEBI).toFixed(1)} MiB; this service takes ${maxBytes / MEBI} MiB (MAX_BODY_MIB).`;

function choose(picture) {
  chosen?.card.removeAttribute("aria-current");
  chosen = picture;
  picture.card.setAttribute("aria-current", "true");
  if (picture.answer && picture.asked !== path()) classify(picture);
  $("stage").hidden = false;
  show($("stage"), picture, picture.asked ?? path());
}

function update(picture) {
  if (picture === chosen) show($("stage"), picture, picture.asked ?? path());
  fillCard(picture);
  tellProgress();
}

function card(picture) {
  const image = photo(picture, "");
  image.loading = "lazy";
  const button = el("button", { type: "button", className: "card" }, image, el("span", { className: "caption" }));
  button.addEventListener("click", () => {
    choose(picture);
    $("stage").scrollIntoView({ block: "nearest" });
  });
  picture.card = button;
  fillCard(picture);
  return button;
}

function fillCard({ card: button, answer, problem, busy, asking, file }) {
  const caption = button.querySelector(".caption");
  const best = answer?.predictions[0];
  button.dataset.state = answer ? "done" : problem ? "failed" : busy ? "busy" : asking ? "asking" : "waiting";
  button.title = file.name;
  if (best) {
    const fill = el("i", {});
    fill.style.width = `${best.score * 100}%`;
    caption.replaceChildren(
      el("b", { textContent: splitLabel(best.label)[0] }),
      el("span", { className: "score", textContent: percent(best.score) }),
      el("span", { className: "track", "aria-hidden": "true" }, fill),
    );
  } else {
    const text = problem ?? (busy ? `Busy, again in ${busy} s` : asking ? "Looking …" : "In line");
    caption.replaceChildren(el("span", { textContent: text }));
  }
}

let telling = false;

/** Say how far it is, at most four times a second. */
function tellProgress() {
  if (telling) return;
  telling = true;
  setTimeout(() => {
    telling = false;
    const done = pictures.filter((one) => one.answer);
    const failed = pictures.filter((one) => one.problem).length;
    const over = done.length + failed;
    const all = pictures.length;
    $("meter").max = all || 1;
    $("meter").value = over;
    $("meter").hidden = over === all;
    const parts = [over < all ? `${done.length} of ${all} answered` : `${done.length} answered`];
    if (failed) parts.push(`${failed} without an answer`);
    if (done.length) {
      const totals = done.map((one) => one.answer.timing_ms.total).sort((a, b) => a - b);
      parts.push(`median ${ms(totals[Math.floor(totals.length / 2)])} ms`);
      parts.push(`largest batch ${Math.max(...done.map((one) => one.answer.batch_size))}`);
    }
    $("progress").textContent = parts.join(" · ");
  }, 250);
}

/** Arrows go from card to card. */
function moveFocus(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = pictures.findIndex((one) => one.card === document.activeElement);
  const next = pictures[at + step];
  if (!step || at < 0 || !next) return;
  event.preventDefault();
  next.card.focus();
}
