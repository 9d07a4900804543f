// Rows of files with a weight each: LoRA files, and ControlNets with the picture that each follows.

import { button, element } from "./dom.js";
import { Slot } from "./slot.js";

export class Weighted extends EventTarget {
  /** names: of the files. text: on the button that adds one. pictures: whether each has one. */
  constructor(names, text, pictures = false) {
    super();
    this.names = names;
    this.pictures = pictures;
    this.rows = [];
    this.list = element("div");
    this.element = element(
      "div",
      {},
      this.list,
      button(text, () => this.add(), { className: "quiet" }),
    );
  }

  add(name = this.names[0], weight = 1, blob = null) {
    const file = element("select", { label: "File" }, ...this.names.map((one) => new Option(one, one)));
    file.value = name;
    const amount = element("input", {
      type: "number",
      step: "0.05",
      value: weight,
      required: true,
      title: "Weight",
      label: "Weight",
    });
    const row = { file, amount };
    const remove = button("Remove", () => this.#remove(row), { className: "quiet" });
    row.element = element("div", { className: "weighted" }, file, amount, remove);
    if (this.pictures) {
      row.slot = new Slot("Picture that it follows");
      row.edges = element("input", { type: "checkbox", checked: /canny/i.test(name) });
      const edges = element(
        "label",
        { className: "truth" },
        row.edges,
        element("span", { t: "Its edges (Canny)" }),
      );
      file.onchange = () => (row.edges.checked = /canny/i.test(file.value));
      row.element.append(row.slot.element, edges);
      if (blob) row.slot.put(blob);
    }
    this.rows.push(row);
    this.list.append(row.element);
    this.#changed();
  }

  #remove(row) {
    this.rows = this.rows.filter((one) => one !== row);
    row.element.remove();
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  clear() {
    this.rows.slice().forEach((row) => this.#remove(row));
  }

  /** What is chosen: [{name, weight}]. */
  get chosen() {
    return this.rows.map(({ file, amount }) => ({
      name: file.value,
      weight: amount.valueAsNumber,
    }));
  }
}
