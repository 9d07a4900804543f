// What was painted, newest first, and a picture of it with its settings.

import * as api from "./api.js";
import { button, download, element, signButton } from "./dom.js";
import { draggable, show } from "./slot.js";

const AGAIN = 5000; // milliseconds until a picture that did not come is asked for again
const ORDER = ["prompt", "negative_prompt", "model", "profile", "width", "height", "seed"];
// What a picture says beside its call.
const AROUND = {
  model: "Model",
  profile: "Profile",
  loras: "LoRA",
  engine: "Engine",
  device: "Device",
  precision: "Precision",
  model_digest: "Model digest",
  solver: "Solver",
  version: "Version",
};

/** Finished pictures: see `api.pictureOf`; a picture is fetched when it comes into view. */
export class Gallery {
  /** open: called with a picture that is clicked. */
  constructor(root, empty, open) {
    Object.assign(this, { root, empty, open });
    this.pictures = [];
    this.seen = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          this.seen.unobserve(target);
          this.#load(target);
        }
      },
      { rootMargin: "400px" },
    );
  }

  /** Put a picture at the beginning, or behind all others. */
  add(picture, { last = false } = {}) {
    if (this.pictures.some((one) => one.path === picture.path)) return;
    const image = element("img", { alt: picture.prompt ?? picture.info?.prompt ?? "" });
    const thumb = element("button", { type: "button", className: "thumb" }, image);
    thumb.onclick = () => this.open(picture);
    thumb.picture = picture;
    draggable(image, () => picture.blob ?? null);
    if (last) {
      this.pictures.push(picture);
      this.root.append(thumb);
    } else {
      this.pictures.unshift(picture);
      this.root.prepend(thumb);
    }
    this.empty.hidden = true;
    this.seen.observe(thumb);
  }

  async #load(thumb) {
    try {
      show(thumb.firstChild, await blobOf(thumb.picture));
    } catch (error) {
      if (error.status === 404) this.#remove(thumb); // the server keeps no more than so many
      else setTimeout(() => this.seen.observe(thumb), AGAIN);
    }
  }

  #remove(thumb) {
    this.pictures.splice(this.pictures.indexOf(thumb.picture), 1);
    thumb.remove();
  }

  /** The picture beside another; null at the ends. */
  beside(picture, steps) {
    return this.pictures[this.pictures.indexOf(picture) + steps] ?? null;
  }
}

/** A picture's file, fetched once. */
export function blobOf(picture) {
  picture.fetched ??= api.picture(picture.path).then(
    (blob) => (picture.blob = blob),
    (error) => {
      picture.fetched = null;
      throw error;
    },
  );
  return picture.fetched;
}

/** A picture's settings as a list of names and values. */
export function described(info, form) {
  const names = [...new Set([...ORDER, ...form.fields.keys(), ...Object.keys(info)])];
  const list = element("dl");
  for (const name of names.filter((one) => info[one] !== undefined && info[one] !== "")) {
    list.append(
      element("dt", { t: form.labels.get(name) ?? AROUND[name] ?? name.replaceAll("_", " ") }),
      element("dd", { textContent: written(info[name]) }),
    );
  }
  return list;
}

function written(value) {
  if (!Array.isArray(value))
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  return value
    .map((one) =>
      one.name ? `${one.name}${one.weight === undefined ? "" : ` ${one.weight}`}` : one,
    )
    .join(", ");
}

/** Shows one picture large, with what can be done with it. */
export class Viewer {
  /** actions: text on a button -> what it does with a picture and its blob. */
  constructor(dialog, gallery, form, actions) {
    Object.assign(this, { dialog, gallery, form, actions });
    this.image = element("img", { alt: "" });
    this.about = element("div", { className: "about" });
    this.newer = signButton("‹", "Newer", () => this.#step(-1));
    this.older = signButton("›", "Older", () => this.#step(1));
    const close = signButton("×", "Close", () => dialog.close());
    dialog.append(
      element("div", { className: "bar" }, this.newer, this.older, close),
      element("div", { className: "large" }, this.image),
      this.about,
    );
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#step(-1);
      if (event.key === "ArrowRight") this.#step(1);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    draggable(this.image, () => this.picture.blob);
  }

  async open(picture) {
    this.picture = picture;
    const [blob] = await Promise.all([blobOf(picture), api.known(picture)]);
    if (this.picture !== picture) return;
    show(this.image, blob);
    this.image.alt = picture.info.prompt ?? "";
    const buttons = Object.entries(this.actions).map(([text, act]) =>
      button(text, () => {
        this.dialog.close();
        act(picture.info, blob);
      }),
    );
    const save = button("Save", () => download(blob, `pleinair-${picture.seed}.png`));
    this.about.replaceChildren(
      element("div", { className: "buttons" }, ...buttons, save),
      described(picture.info, this.form),
    );
    // No `disabled`, which would take the focus, and with it the keys, away.
    this.newer.ariaDisabled = !this.gallery.beside(picture, -1);
    this.older.ariaDisabled = !this.gallery.beside(picture, 1);
    if (!this.dialog.open) this.dialog.showModal();
  }

  #step(steps) {
    const next = this.gallery.beside(this.picture, steps);
    if (next) this.gallery.open(next);
  }
}
