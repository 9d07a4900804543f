// What the page says, in the reader's language. The sources say it in English; `zh.json` has what
// that is in Chinese. A changed English text is found missing there by the tests.

const LANGUAGES = { en: "English", zh: "中文" };
const STORED = "pleinair.language";

let table = {};
export let language = "en";

/** A text in the reader's language; {name} in it is one of `values`. */
export function t(text, values = {}) {
  return (table[text] ?? text).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/** Give an element a text, or an attribute one, that follows the language. */
export function say(element, text, values = {}, attribute = "") {
  const texts = (element.texts ??= {});
  texts[attribute] = { text, values };
  write(element, attribute, t(text, resolved(values)));
  element.dataset.texts = "";
  return element;
}

/** A value that is itself said: a function, called whenever the text is written. */
function resolved(values) {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      typeof value === "function" ? value() : value,
    ]),
  );
}

function write(element, attribute, text) {
  if (attribute) element.setAttribute(attribute, text);
  else element.textContent = text;
}

/** Say everything in a language. */
export async function speak(wanted) {
  const answer = wanted === "en" ? null : await fetch(`page/files/${wanted}.json`);
  table = answer ? await answer.json() : {};
  language = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : wanted;
  for (const element of document.querySelectorAll("[data-texts]")) {
    for (const [attribute, { text, values }] of Object.entries(element.texts ?? {})) {
      write(element, attribute, t(text, resolved(values)));
    }
  }
}

/** What stands in the page's file is said, too: `data-t`, and `data-t-placeholder` and others. */
export function adopt(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) say(element, element.dataset.t);
  for (const attribute of ["placeholder", "title", "aria-label"]) {
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) {
      say(element, element.getAttribute(`data-t-${attribute}`), {}, attribute);
    }
  }
}

/** Offer the languages in a <select>, and begin in the reader's. */
export async function begin(select) {
  for (const [code, name] of Object.entries(LANGUAGES)) select.append(new Option(name, code));
  const asked = [
    localStorage.getItem(STORED),
    ...navigator.languages.map((one) => one.slice(0, 2)),
  ];
  select.value = asked.find((code) => code in LANGUAGES) ?? "en";
  select.addEventListener("change", () => {
    localStorage.setItem(STORED, select.value);
    speak(select.value);
  });
  adopt();
  await speak(select.value);
}
