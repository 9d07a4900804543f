// Where the server wants a key, the page asks for it.

import { button, element } from "./dom.js";

let asking = null;

/** Ask in a dialog; gives the key, or null. However many ask at once, the reader is asked once. */
export function askForKey(dialog, wrong) {
  asking ??= new Promise((resolve) => {
    const key = element("input", { type: "password", required: true, name: "key" });
    const form = element(
      "form",
      { method: "dialog" },
      element("h2", {
        t: wrong ? "This key is not one of the server's" : "This server wants a key",
      }),
      element("label", {}, element("span", { t: "Key" }), key),
      element(
        "div",
        { className: "buttons" },
        element("button", { t: "Go on", className: "main" }),
      ),
    );
    form.querySelector(".buttons").prepend(button("Cancel", () => dialog.close()));
    let given = null;
    form.onsubmit = () => (given = key.value.trim());
    dialog.onclose = () => {
      asking = null;
      resolve(given);
    };
    dialog.replaceChildren(form);
    dialog.showModal();
  });
  return asking;
}
