// A picture that somebody brings: what it says of itself, and what can be done with it.

import * as api from "./api.js";
import { button, element, signButton } from "./dom.js";
import { described } from "./gallery.js";
import { brings, dropped, show } from "./slot.js";

/** Take pictures that are dropped anywhere on the page, or pasted. */
export function takeAnywhere(take) {
  document.addEventListener(
    "dragover",
    (event) => brings(event.dataTransfer) && event.preventDefault(),
  );
  document.addEventListener("drop", (event) => {
    const blob = brings(event.dataTransfer) && dropped(event.dataTransfer);
    if (!blob) return;
    event.preventDefault();
    take(blob);
  });
  document.addEventListener("paste", (event) => {
    const blob = dropped(event.clipboardData);
    if (blob) take(blob);
  });
}

/** Show a picture with what can be done with it.
 * repeats: actions for a picture that says how it was made; starts: for any picture. */
export async function bring(dialog, blob, form, repeats, starts) {
  const made = await api.read(blob, form.model.name);
  const image = element("img", { alt: "" });
  show(image, blob);
  const act = ([text, action]) =>
    button(text, () => {
      dialog.close();
      action(made?.settings ?? {}, blob);
    });
  const found = made
    ? [
        element("p", { t: "Made by {program}:", values: { program: made.program } }),
        element("div", { className: "buttons" }, ...Object.entries(repeats).map(act)),
        described(made.settings, form),
      ]
    : [element("p", { t: "It does not say how it was made." })];
  if (made?.ignored.length) {
    const names = made.ignored.join(", ");
    found.push(element("p", { className: "help", t: "Not used: {names}", values: { names } }));
  }
  const close = signButton("×", "Close", () => dialog.close());
  dialog.replaceChildren(
    element("div", { className: "bar" }, close),
    element("div", { className: "large" }, image),
    element(
      "div",
      { className: "about" },
      element("div", { className: "buttons" }, ...Object.entries(starts).map(act)),
      ...found,
    ),
  );
  dialog.showModal();
}
