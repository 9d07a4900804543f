// Elements made in one call.

import { say } from "./words.js";

/** An element with properties and children; `t` is its text, which follows the language, and so do
 * `title`, `label` (read aloud for what shows no text) and `values` in them. */
export function element(tag, { t, values, title, label, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (t !== undefined) say(made, t, values);
  if (title !== undefined) say(made, title, values, "title");
  if (label !== undefined) say(made, label, values, "aria-label");
  made.append(...children);
  return made;
}

export function button(t, onclick, properties = {}) {
  return element("button", { type: "button", t, onclick, ...properties });
}

/** A button that shows a sign; `title` says what it does. */
export function signButton(sign, title, onclick, properties = {}) {
  return button(undefined, onclick, { textContent: sign, title, label: title, ...properties });
}

/** A picture file as base64, without the `data:` before it. */
export async function base64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

/** A canvas as a PNG. */
export function png(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Let the reader save a file. */
export function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
