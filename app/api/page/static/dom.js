// Small helpers: elements, numbers, shell words.

export const $ = (id) => document.getElementById(id);

/** An element; `props` are properties, or attributes where the name has a dash. */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export const percent = (score) => `${(score * 100).toFixed(1)} %`;

export const ms = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** The first of a label's synonyms, and the others. */
export function splitLabel(label) {
  const [first, ...rest] = label.split(", ");
  return [first, rest.join(", ")];
}

/** One word of a shell's: a file's name must not become an order. */
export const shellWord = (text) =>
  /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** What curl's -F takes for a file; a comma, a semicolon and a quote mean something to it. */
export function curlFile(name) {
  const visible = name.replace(/[\p{Cc}\p{Cf}]/gu, "?");
  const plain = /^[\w. ()+-]+$/.test(visible);
  return plain ? visible : `"${visible.replace(/[\\"]/g, "\\$&")}"`;
}

/** A line to copy, with a button that does. */
export function copyLine(text) {
  const code = el("code", { textContent: text });
  const button = el("button", { type: "button", className: "button plain small", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // without TLS a browser has no clipboard
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return el("div", { className: "curl" }, el("pre", {}, code), button);
}
