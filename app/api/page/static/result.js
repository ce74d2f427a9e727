// One picture's answer, large.

import { copyLine, curlFile, el, ms, percent, plural, shellWord, splitLabel } from "./dom.js";
import { hasKey } from "./service.js";

const STAGES = ["decode", "queue", "inference", "rest"];
const NAMES = { decode: "decoding", queue: "waiting", inference: "inference", rest: "the rest" };
const MOST_DOTS = 16;

/** The line that asks the same; a sample is where the service is, other files where the reader is. */
export function curl(path, picture) {
  const key = hasKey() ? ` -H "Authorization: Bearer $KEY"` : "";
  const url = shellWord(location.origin + path);
  if (picture.sample) {
    return `curl -s ${location.origin}/static/samples/${picture.sample} | curl${key} -F file=@- ${url}`;
  }
  return `curl${key} -F ${shellWord(`file=@${curlFile(picture.file.name)}`)} ${url}`;
}

/** A picture, or what stands for one that the browser cannot show. */
export function photo(picture, alt) {
  const image = el("img", { src: picture.url, alt, decoding: "async" });
  image.addEventListener("error", () => {
    image.replaceWith(el("span", { className: "no-photo", textContent: picture.file.name }));
  });
  return image;
}

/** Fill `stage` with what is known of a picture; one that is there already stays, and does not flicker. */
export function show(stage, picture, path) {
  const said = el("div", { className: "said" });
  if (picture.answer) said.append(...answered(picture, path));
  else if (picture.problem) said.append(...failed(picture));
  else said.append(...waiting(picture));
  if (stage.firstChild?.picture === picture) {
    stage.lastChild.replaceWith(said);
    return;
  }
  const figure = el("figure", { className: "photo", picture }, photo(picture, `Your picture: ${picture.file.name}`));
  stage.replaceChildren(figure, said);
}

function waiting(picture) {
  const text = picture.busy ? `Busy. Asking again in ${plural(picture.busy, "second")}.` : "Looking …";
  const bars = [72, 44, 58, 30, 50].map(() => el("i", {}));
  return [el("h2", { className: "soft", textContent: text }), el("div", { className: "ghosts", "aria-hidden": "true" }, ...bars)];
}

function failed(picture) {
  const again = el("button", { type: "button", className: "button", textContent: "Ask again" });
  again.addEventListener("click", picture.askAgain);
  return [
    el("h2", { textContent: "No answer for this one" }),
    el("p", { className: "sentence", textContent: picture.problem }),
    el("p", { className: "soft", textContent: picture.file.name }),
    el("div", { className: "tools" }, again),
  ];
}

function answered({ answer, file, sample }, path) {
  return [
    el("ol", { className: "bars" }, ...answer.predictions.map(bar)),
    timing(answer),
    batch(answer),
    copyLine(curl(path, { file, sample })),
  ];
}

function bar({ label, score }, rank) {
  const [first, others] = splitLabel(label);
  const fill = el("i", {});
  fill.style.width = `${score * 100}%`;
  return el(
    "li",
    {},
    el(rank ? "span" : "h2", { className: "label", title: label }, first, others ? el("small", { textContent: ` ${others}` }) : null),
    el("span", { className: "score", textContent: percent(score) }),
    el("span", { className: "track", "aria-hidden": "true" }, fill),
  );
}

function timing(answer) {
  const { total, ...times } = answer.timing_ms;
  times.rest = Math.max(0, total - times.decode - times.queue - times.inference);
  const shares = STAGES.map((stage) => {
    const part = el("i", { className: stage });
    part.style.flexGrow = times[stage];
    return part;
  });
  const words = STAGES.map((stage) =>
    el("li", { className: stage }, `${NAMES[stage]} `, el("b", { textContent: ms(times[stage]) })),
  );
  return el(
    "div",
    { className: "timing" },
    el("h3", {}, "Answered in ", el("b", { textContent: `${ms(total)} ms` })),
    el("div", { className: "stages", "aria-hidden": "true" }, ...shares),
    el("ul", {}, ...words),
  );
}

function batch({ batch_size: size, cache }) {
  if (cache === "hit") return el("p", { className: "batch", textContent: "The answer was kept from an earlier request." });
  const others = size - 1;
  const dots = Array.from({ length: Math.min(size, MOST_DOTS) }, () => el("i", {}));
  const text = others ? `Shared its batch with ${plural(others, "other picture")}` : "Alone in its batch";
  const shared = cache === "shared" ? ", and its answer with another request" : "";
  return el("p", { className: "batch" }, el("span", { className: "dots", "aria-hidden": "true" }, ...dots), `${text}${shared}.`);
}
