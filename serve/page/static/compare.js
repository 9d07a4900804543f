// Compare sheets: one picture for every value of a setting, or for every pair of two.

import * as api from "./api.js";
import { button, download, element, png } from "./dom.js";
import { blobOf } from "./gallery.js";
import { watch } from "./jobs.js";
import { show } from "./slot.js";
import { t } from "./words.js";

const MOST = 64; // pictures of a sheet
const AT_ONCE = 2;
const PROSE = ["prompt", "negative_prompt"];

/** What is compared: a setting and its values, as they are typed. */
export class Axis {
  constructor(form, text) {
    this.form = form;
    this.setting = element("select");
    this.values = element("textarea", { rows: 1, spellcheck: false });
    this.choices = element("div", { className: "words" });
    this.element = element(
      "div",
      { className: "axis" },
      element("label", {}, element("span", { t: text }), this.setting),
      element("label", {}, element("span", { t: "Values" }), this.values),
      this.choices,
    );
    this.setting.append(element("option", { value: "", t: "nothing" }));
    for (const { name, label, kind } of form.fields.values()) {
      if (kind !== "truth") this.setting.append(element("option", { value: name, t: label }));
    }
    for (const [name, label] of [
      ["model", "Model"],
      ["profile", "Profile"],
    ]) {
      this.setting.append(element("option", { value: name, t: label }));
    }
    this.setting.onchange = () => this.#offer();
  }

  get name() {
    return this.setting.value;
  }

  /** The values as the server takes them; an Error says what is wrong. */
  read() {
    if (!this.name) return [null];
    const parts = this.values.value.split(PROSE.includes(this.name) ? "|" : /[,，]/);
    const values = parts.map((one) => one.trim()).filter((one) => one !== "");
    if (!values.length)
      throw new Error(t("Give values for {name}.", { name: this.form.label(this.name) }));
    return values.map((text) => this.#value(text));
  }

  #value(text) {
    const { kind } = this.form.fields.get(this.name) ?? {};
    const known = this.#known();
    if (known && !known.includes(text)) {
      throw new Error(t("{text} is none of these: {known}", { text, known: known.join(", ") }));
    }
    if (kind !== "integer" && kind !== "number") return text;
    const number = Number(text);
    if (!Number.isFinite(number) || (kind === "integer" && !Number.isSafeInteger(number))) {
      throw new Error(t("{text} is no number.", { text }));
    }
    return number;
  }

  /** What may be chosen, null where anything may be typed. */
  #known() {
    if (this.name === "model") return this.form.offer.models.map((one) => one.name);
    if (this.name === "profile") return this.form.model.profiles;
    const field = this.form.fields.get(this.name);
    return field?.kind === "choice"
      ? [...field.input.options].map((one) => one.value).filter(Boolean)
      : null;
  }

  #offer() {
    this.values.value = "";
    const add = (one) => (this.values.value = [this.values.value, one].filter(Boolean).join(", "));
    this.choices.replaceChildren(
      ...(this.#known() ?? []).map((one) =>
        button(undefined, () => add(one), { className: "word", textContent: one }),
      ),
    );
  }
}

/** Paint a sheet into `root`, and its pictures into a gallery: `order` is what they have in common. */
export function paintSheet(root, order, columns, rows, gallery) {
  const heads = columns.read();
  const sides = rows.read();
  if (heads[0] === null) throw new Error(t("Choose a setting to compare."));
  if (columns.name === rows.name) throw new Error(t("Choose two different settings."));
  if (heads.length * sides.length > MOST)
    throw new Error(t("A sheet has at most {most} pictures.", { most: MOST }));
  const seed = order.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const cells = sides.map((side) =>
    heads.map((head) => {
      const varied = { [columns.name]: head, ...(side === null ? {} : { [rows.name]: side }) };
      return cellOf({ ...order, seed, number: 1, ...varied }, Object.values(varied).join(", "));
    }),
  );
  const label = (axis, value) =>
    PROSE.includes(axis.name) || typeof value === "string"
      ? value
      : `${axis.form.label(axis.name)} ${value}`;
  const sheet = new Sheet(
    cells,
    heads.map((value) => label(columns, value)),
    sides[0] === null ? null : sides.map((value) => label(rows, value)),
  );
  root.prepend(sheet.element);
  sheet.element.scrollIntoView({ block: "nearest" });
  sheet.paint(gallery);
}

/** A picture of a sheet, which is still to be painted: a button that will show it large. */
function cellOf(order, alt) {
  const image = element("img", { alt });
  const large = element("button", { type: "button", hidden: true }, image);
  return { order, image, large, note: element("span", { className: "spinner" }) };
}

const heading = (text, scope) => element("th", { textContent: text, scope });

class Sheet {
  constructor(cells, heads, sides) {
    Object.assign(this, { cells, heads, sides, stopped: false, ids: new Set() });
    this.stop = button("Stop", () => this.#stop(), { className: "stop" });
    this.save = button("Save the sheet", () => this.#save());
    const close = button(
      "Close",
      () => {
        this.#stop();
        this.element.remove();
      },
      { className: "quiet" },
    );
    const table = element("table");
    const corner = sides ? [element("th")] : [];
    table.append(element("tr", {}, ...corner, ...heads.map((text) => heading(text, "col"))));
    cells.forEach((row, i) => {
      const side = sides ? [heading(sides[i], "row")] : [];
      const places = row.map(({ large, note }) => element("td", {}, large, note));
      table.append(element("tr", {}, ...side, ...places));
    });
    this.element = element(
      "div",
      { className: "sheet card" },
      element("div", { className: "scroll" }, table),
      element("div", { className: "buttons" }, this.stop, this.save, close),
    );
  }

  /** A few cells at a time, so that all of them are followed. */
  async paint(gallery) {
    const cells = this.cells.flat();
    const next = async () => {
      while (cells.length) await this.#cell(cells.shift(), gallery);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
    this.stop.hidden = true;
  }

  async #cell(cell, gallery) {
    try {
      if (this.stopped) return;
      const job = await api.submit(cell.order, true);
      this.ids.add(job.id);
      if (this.stopped) await api.cancel(job.id);
      await watch(job.id, {
        picture: async (picture) => {
          gallery.add(picture);
          show(cell.image, await blobOf(picture));
          cell.large.onclick = () => gallery.open(picture);
          cell.large.hidden = false;
        },
        withheld: () => (cell.note.title = t("the model's safety checker withholds it")),
        failed: (message) => (cell.note.title = message),
      });
    } catch (error) {
      cell.note.title = error.message;
    }
    cell.note.className = cell.large.hidden ? "none" : "";
    if (cell.large.hidden) cell.note.textContent = cell.note.title || "–";
  }

  #stop() {
    this.stopped = true;
    for (const id of this.ids) api.cancel(id).catch(() => {});
  }

  /** The sheet as one picture. */
  async #save() {
    const images = this.cells.map((row) => row.map(({ image }) => image));
    const width = Math.max(64, ...images.flat().map((one) => one.naturalWidth));
    const height = Math.max(64, ...images.flat().map((one) => one.naturalHeight));
    const size = Math.min(28, Math.max(13, Math.round(width / 20)));
    const left = this.sides ? size * 10 : 0;
    const top = size * 2.5;
    const canvas = element("canvas", {
      width: left + this.heads.length * (width + 8),
      height: top + images.length * (height + 8),
    });
    const pen = canvas.getContext("2d");
    Object.assign(pen, {
      fillStyle: "white",
      font: `${size}px sans-serif`,
      textAlign: "center",
      textBaseline: "middle",
    });
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = "black";
    this.heads.forEach((text, x) =>
      pen.fillText(text, left + x * (width + 8) + width / 2, top / 2, width),
    );
    images.forEach((row, y) => {
      const down = top + y * (height + 8);
      if (this.sides) pen.fillText(this.sides[y], left / 2, down + height / 2, left - 8);
      row.forEach(
        (image, x) => image.naturalWidth && pen.drawImage(image, left + x * (width + 8), down),
      );
    });
    download(await png(canvas), "pleinair-sheet.png");
  }
}
