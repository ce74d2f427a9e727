// The second tab: two pictures, and the cosine of their embeddings.

import { $, copyLine, el, ms } from "./dom.js";
import { curl, photo } from "./result.js";
import { send } from "./service.js";

const PATH = "/embed?normalize=true";
const SAMPLES = ["cat.jpg", "coffee.jpg", "rocket.jpg"];

const sides = ["First", "Second"].map((name) => ({ name, picture: null }));

/** Build the two sides; `fetchSample` gives a sample as a file. */
export function start(fetchSample) {
  for (const side of sides) {
    const input = el("input", { type: "file", accept: "image/*", className: "quiet", tabIndex: -1, "aria-label": `${side.name} picture` });
    side.button = el("button", { type: "button", className: "slot" });
    side.button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => input.files[0] && put(side, input.files[0]));
    const samples = SAMPLES.map((sample) => {
      const image = el("img", { src: `/static/samples/${sample}`, alt: sample.replace(".jpg", "") });
      const button = el("button", { type: "button" }, image);
      button.addEventListener("click", async () => put(side, await fetchSample(sample), sample));
      return button;
    });
    const group = el("div", { className: "minis", role: "group", "aria-label": `Samples for the ${side.name.toLowerCase()} picture` }, ...samples);
    group.prepend(el("span", { textContent: "Or" }));
    const column = el("div", { className: "side" }, side.button, input, group);
    if (side === sides[0]) $("pair").prepend(column);
    else $("pair").append(column);
    draw(side);
  }
  compare();
}

/** Pictures that were dropped or pasted: into what is empty, else in place of the second. */
export function add(files) {
  const places = files.length > 1 ? sides : [sides.find((side) => !side.picture) ?? sides[1]];
  places.forEach((side, index) => put(side, files[index]));
}

async function put(side, file, sample) {
  if (side.picture) URL.revokeObjectURL(side.picture.url);
  const picture = { file, sample, url: URL.createObjectURL(file) };
  side.picture = picture;
  draw(side);
  compare();
  try {
    picture.answer = await send(PATH, file);
  } catch (error) {
    picture.problem = error.message;
  }
  if (side.picture === picture) {
    draw(side);
    compare();
  }
}

function draw({ name, button, picture }) {
  button.classList.toggle("filled", Boolean(picture));
  if (!picture) {
    button.replaceChildren(el("b", { textContent: `${name} picture` }), el("span", { textContent: "Choose, drop or paste" }));
    return;
  }
  const said = picture.problem
    ? el("span", { className: "sentence", textContent: picture.problem })
    : el("span", { className: "note", textContent: picture.answer ? `${ms(picture.answer.timing_ms.total)} ms` : "Looking …" });
  button.replaceChildren(photo(picture, `${name} picture: ${picture.file.name}. Choose another`), said);
}

function compare() {
  const [one, other] = sides.map((side) => side.picture?.answer?.embedding);
  const mark = el("i", {});
  let text = "–";
  const lines = [];
  if (one && other) {
    // Both have length one, so the product is the cosine; rounding may pass 1.
    const cosine = Math.min(1, one.reduce((total, value, index) => total + value * other[index], 0));
    text = cosine.toFixed(3);
    mark.style.left = `${Math.max(0, cosine) * 100}%`;
    lines.push(copyLine(sides.map((side) => curl(PATH, side.picture)).join("\n")));
  } else {
    mark.hidden = true;
  }
  $("likeness").replaceChildren(
    el("p", { className: lines.length ? "cosine" : "cosine soft" }, el("b", { textContent: text }), "cosine"),
    el("div", { className: "scale", "aria-hidden": "true" }, mark),
    el("p", { className: "ends", "aria-hidden": "true" }, el("span", { textContent: "0 unlike" }), el("span", { textContent: "1 the same" })),
  );
  $("compare-curl").replaceChildren(...lines);
}
