// The form: a field for every option that the server declares, with its help, choices and bounds.

import { button, element } from "./dom.js";
import { language, say, t } from "./words.js";

const STORED = "pleinair.form";
// Pictures are brought by dropping them, and are no fields.
const PICTURES = ["image", "mask_image", "control_image"];
const PROMPTS = ["prompt", "negative_prompt"];
const HEADINGS = { Prompting: "Prompt", Reuse: "Reuse from step to step", Answer: "Result" };
const IDEOGRAPH = /\p{Script=Han}/u;
const SHAPES = ["1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16"];
// What a picture says beside its call: filled in otherwise, or of the machine that painted it.
const AROUND = [
  "model",
  "profile",
  "loras",
  "model_digest",
  "engine",
  "device",
  "precision",
  "solver",
  "version",
  "clip_layer",
];

export class Form extends EventTarget {
  /** `offer` is what the server says can be chosen. */
  constructor(root, offer) {
    super();
    this.root = root;
    this.offer = offer;
    this.fields = new Map();
    this.labels = new Map(
      offer.groups.flatMap((group) => group.fields).map((one) => [one.name, one.label]),
    );
    this.groups = [];
    for (const group of offer.groups) this.#place(group);
    this.#chooseModels();
    this.#chooseShapes();
    root.addEventListener("input", () => this.#remember());
    root.addEventListener("focusin", (event) => this.#hint(event.target.name));
    root.querySelector("#random").onclick = () => this.set("seed", "");
    root.querySelector("#reset").onclick = () => this.#reset();
    this.#recall();
  }

  get model() {
    return this.offer.models.find((one) => one.name === this.root.model.value);
  }

  get number() {
    return this.root.number.valueAsNumber;
  }

  /** The label of an option, in the reader's language. */
  label(name) {
    return t(this.labels.get(name) ?? { model: "Model", profile: "Profile" }[name] ?? name);
  }

  /** What is asked for, by the names of a call's arguments; what is left empty is not said. */
  values() {
    const asked = {};
    for (const { name, kind, input } of this.fields.values()) {
      if (input.closest("[hidden]")) continue;
      if (kind === "truth") {
        if (input.checked) asked[name] = true;
      } else if (input.value.trim() !== "" || name === "prompt") {
        asked[name] = kind === "integer" || kind === "number" ? Number(input.value) : input.value;
      }
    }
    return asked;
  }

  /** Fill in one option; false where its choices do not have the value. */
  set(name, value) {
    const { kind, input } = this.fields.get(name);
    if (kind === "truth") input.checked = Boolean(value);
    else input.value = value ?? "";
    const taken = kind !== "choice" || input.selectedIndex >= 0;
    if (!taken) input.value = "";
    this.#remember();
    return taken;
  }

  /** Fill in a picture's settings; options that it says nothing of are emptied. What is not
   * available here is returned, in a few words each. */
  fill(settings) {
    const missing = Object.keys(settings).filter(
      (name) => !this.fields.has(name) && !AROUND.includes(name),
    );
    const { model, profile } = settings;
    if (this.offer.models.some((one) => one.name === model && !one.broken)) this.choose(model);
    else if (model) missing.push(`${this.label("model")} ${model}`);
    for (const name of this.fields.keys()) {
      if (!this.set(name, settings[name])) missing.push(`${this.label(name)} ${settings[name]}`);
    }
    this.root.querySelector("#shape").value = "";
    const offered = this.model.profiles.includes(profile);
    this.root.profile.value = offered ? profile : "";
    if (profile && !offered) missing.push(`${this.label("profile")} ${profile}`);
    this.#remember();
    return missing;
  }

  /** Every setting but the prompts as the model has it. */
  #reset() {
    for (const { name } of this.fields.values()) if (!PROMPTS.includes(name)) this.set(name, "");
    this.root.querySelector("#shape").value = "";
    this.root.profile.value = "";
    this.root.number.value = 1;
    this.#remember();
  }

  choose(name) {
    this.root.model.value = name;
    this.#modelChanged();
  }

  #place(group) {
    const special = this.root.querySelector(`[data-group="${group.name}"]`);
    const fields = group.fields.filter((field) => !PICTURES.includes(field.name));
    const heading = group.families.length
      ? { textContent: group.families[0] }
      : { t: HEADINGS[group.name] ?? group.name };
    const rest = element("fieldset", {}, element("legend", heading));
    for (const field of fields) {
      const slot = this.root.querySelector(`[data-field="${field.name}"]`);
      const made = this.#make(field, slot?.dataset.rows);
      (slot ?? special ?? rest).append(made);
    }
    const only = special ?? rest;
    if (group.families.length) this.groups.push({ families: group.families, box: only });
    if (rest.children.length > 1) this.root.querySelector("#more").append(rest);
  }

  #make(field, rows) {
    const input = control(field, rows);
    input.name = field.name;
    const limit = this.offer.limits[field.name];
    if (limit !== undefined) input.max = limit;
    this.fields.set(field.name, { ...field, input });
    const label = element("label", {
      className: field.kind,
      title: field.help,
      values: this.#named(field.help),
    });
    say(input, field.help, this.#named(field.help), "aria-description");
    const name = element("span", { t: field.label });
    label.append(...(field.kind === "truth" ? [input, name] : [name, input]));
    return label;
  }

  /** Say what the field at hand is for: on a phone nothing hovers. What a prompt is for says its
   * placeholder. */
  #hint(name) {
    const hint = this.root.querySelector("#hint");
    const field = this.fields.get(name);
    if (name === "prompt") say(hint, hint.dataset.t);
    else if (field) say(hint, field.help, this.#named(field.help));
  }

  /** The labels of other fields that a help names. */
  #named(help) {
    return Object.fromEntries(
      [...help.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name, () => this.label(name)]),
    );
  }

  #chooseModels() {
    const { model } = this.root;
    for (const one of this.offer.models) {
      model.append(
        element("option", { value: one.name, textContent: one.name, disabled: one.broken }),
      );
    }
    model.value = this.offer.models.find((one) => !one.broken)?.name;
    model.addEventListener("change", () => this.#modelChanged());
    this.#modelChanged();
  }

  #modelChanged() {
    const model = this.model;
    for (const field of this.fields.values()) {
      const usual = model.usual[field.name] ?? field.default;
      if (field.name === "scheduler") options(field.input, model.samplers, usual);
      else if (field.kind === "choice") options(field.input, field.choices, usual);
      else if (field.kind !== "truth") field.input.placeholder = usual ?? "";
    }
    for (const side of ["width", "height"]) {
      const { input } = this.fields.get(side);
      Object.assign(input, { placeholder: model.size, step: model.multiple, min: model.multiple });
    }
    say(this.fields.get("seed").input, "random", {}, "placeholder");
    say(this.fields.get("prompt").input, "What to paint: a red apple", {}, "placeholder");
    options(this.root.profile, model.profiles, model.profile);
    for (const { families, box } of this.groups) box.hidden = !families.includes(model.family);
    this.#listWords();
    this.dispatchEvent(new Event("model"));
  }

  /** Words of a small model's: a click puts one into the prompt. */
  #listWords() {
    const box = this.root.querySelector("#words");
    const { words } = this.model;
    box.hidden = !words;
    box
      .querySelector("div")
      .replaceChildren(
        ...Object.entries(words ?? {}).map(([kind, names]) =>
          element(
            "p",
            {},
            element("b", { t: kind }),
            ...Object.entries(names).map(([name, others]) => this.#word([name, ...others])),
          ),
        ),
      );
  }

  /** A word, in the reader's language where the model knows it by that name, too. */
  #word(names) {
    const word = () => (language === "zh" && names.find((one) => IDEOGRAPH.test(one))) || names[0];
    const made = button(undefined, () => this.#add(word()), { className: "word" });
    return say(made, "{word}", { word });
  }

  #add(word) {
    const { input } = this.fields.get("prompt");
    input.value = `${input.value.trimEnd()} ${word}`.trim();
    this.#remember();
  }

  #chooseShapes() {
    const shape = this.root.querySelector("#shape");
    shape.append(element("option", { value: "", t: "default" }));
    for (const one of SHAPES) shape.append(new Option(one, one));
    const sides = ["width", "height"].map((name) => this.fields.get(name).input);
    shape.onchange = () => {
      const values = shape.value
        ? sized(this.model, ...shape.value.split(":").map(Number))
        : ["", ""];
      this.set("width", values[0]);
      this.set("height", values[1]);
    };
    for (const side of sides) side.addEventListener("input", () => (shape.value = ""));
  }

  #remember() {
    const { model, profile } = this.root;
    const values = [...this.fields.values()].map(({ name, kind, input }) => [
      name,
      kind === "truth" ? input.checked : input.value,
    ]);
    const state = {
      model: model.value,
      profile: profile.value,
      values: Object.fromEntries(values),
    };
    localStorage.setItem(STORED, JSON.stringify(state));
  }

  /** As the form was left. */
  #recall() {
    const { model, profile, values } = JSON.parse(localStorage.getItem(STORED) ?? "{}");
    if (this.offer.models.some((one) => one.name === model && !one.broken)) this.choose(model);
    for (const [name, value] of Object.entries(values ?? {})) {
      if (this.fields.has(name)) this.set(name, value);
    }
    this.root.profile.value = this.model.profiles.includes(profile) ? profile : "";
    this.#remember();
  }
}

/** Width and height of a shape, of about as many pixels as the model was trained on. */
export function sized(model, across, down) {
  const scale = model.size / Math.sqrt(across * down);
  return [across, down].map(
    (side) => Math.max(1, Math.round((side * scale) / model.multiple)) * model.multiple,
  );
}

function control({ kind, most, name }, rows) {
  if (rows) return element("textarea", { rows: Number(rows) });
  if (kind === "choice") return element("select");
  if (kind === "truth") return element("input", { type: "checkbox" });
  if (kind === "text") return element("input", { type: "text" });
  const whole = kind === "integer";
  const made = element("input", { type: "number", step: whole ? "1" : "any" });
  made.inputMode = whole ? "numeric" : "decimal";
  if (most !== null) made.max = most;
  else if (whole) made.max = Number.MAX_SAFE_INTEGER; // larger ones a browser does not keep apart
  return made;
}

/** Fill a <select>; the first of its options is what is usual. */
function options(select, choices, usual) {
  const before = select.value;
  const first = usual
    ? element("option", { value: "", t: "{usual} (default)", values: { usual } })
    : element("option", { value: "", t: "default" });
  select.replaceChildren(first, ...choices.map((one) => new Option(one, one)));
  select.value = choices.includes(before) ? before : "";
}
