// A place for one picture: chosen, dropped, or put there by the page.

import { element, signButton } from "./dom.js";
import { say } from "./words.js";

export class Slot extends EventTarget {
  /** `text` says what the picture is for. */
  constructor(text) {
    super();
    this.purpose = text;
    this.blob = null;
    this.file = element("input", { type: "file", accept: "image/*" });
    this.thumb = element("img", { alt: "", hidden: true });
    this.mask = element("div", { className: "mask", hidden: true });
    this.text = element("span", { t: text });
    this.thumb.onerror = () => {
      this.put(null);
      say(this.text, "This is no picture that a browser can show. Choose another one.");
    };
    this.clear = signButton("×", "Remove the picture", () => this.put(null), {
      className: "clear",
      hidden: true,
    });
    const label = element(
      "label",
      { className: "slot" },
      this.file,
      this.text,
      this.thumb,
      this.mask,
    );
    this.element = element("div", { className: "holder" }, label, this.clear);
    this.file.onchange = () => this.put(this.file.files[0] ?? null);
    accept(this.element, (blob) => this.put(blob));
  }

  /** Lay a mask, white on black, over the picture; null takes it away. */
  cover(blob) {
    const before = this.mask.dataset.url;
    if (before) URL.revokeObjectURL(before);
    this.mask.dataset.url = blob ? URL.createObjectURL(blob) : "";
    this.mask.style.setProperty("--mask", blob ? `url(${this.mask.dataset.url})` : "none");
    this.mask.hidden = blob === null;
  }

  /** Put a picture there; null removes it. */
  put(blob) {
    this.blob = blob;
    this.file.value = "";
    show(this.thumb, blob);
    this.text.hidden = blob !== null;
    say(this.text, this.purpose);
    this.clear.hidden = blob === null;
    this.dispatchEvent(new Event("change"));
  }
}

/** Show a picture, or nothing. */
export function show(image, blob) {
  if (image.src) URL.revokeObjectURL(image.src);
  if (blob) image.src = URL.createObjectURL(blob);
  else image.removeAttribute("src");
  image.hidden = !blob;
}

/** Let an element take pictures that are dropped on it. */
export function accept(target, take) {
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("over");
  });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    target.classList.remove("over");
    const blob = dropped(event.dataTransfer);
    if (!blob) return;
    event.preventDefault();
    event.stopPropagation();
    take(blob);
  });
}

let carried = null;

/** Let a picture of the page be dragged: `blob` gives it. */
export function draggable(image, blob) {
  image.draggable = true;
  image.addEventListener("dragstart", () => (carried = blob()));
  image.addEventListener("dragend", () => (carried = null));
}

/** The picture in what is dropped or pasted, null where there is none. */
export function dropped(transfer) {
  return carried ?? [...transfer.files].find((file) => file.type.startsWith("image/")) ?? null;
}

/** Whether what is dragged comes from outside the page and may hold a picture. */
export function brings(transfer) {
  return carried === null && transfer.types.includes("Files");
}
