// The page put together.

import * as api from "./api.js";
import { bring, takeAnywhere } from "./brought.js";
import { Axis, paintSheet } from "./compare.js";
import { base64 } from "./dom.js";
import { Form, sized } from "./form.js";
import { Gallery, Viewer, blobOf } from "./gallery.js";
import { showJob } from "./jobs.js";
import { askForKey } from "./key.js";
import { paintMask } from "./mask.js";
import { Slot, show } from "./slot.js";
import { Weighted } from "./weighted.js";
import { begin, say, t } from "./words.js";

const VARIED = 0.2; // how far a variation goes, where nobody says
const SHOWN = 60; // older pictures that are listed at once
const MASKED = ["mask_invert", "keep_unmasked", "mask_blur"]; // act on a mask alone

const find = (selector) => document.querySelector(selector);

await begin(find("#language"));
api.keyFrom((wrong) => askForKey(find("#asking"), wrong));
tell();

const offer = await offered();
const form = new Form(find("#form"), offer);
find("#form").number.max = offer.limits.number;

// The picture to start from, and its mask.

const start = new Slot("Drop a picture here, or choose one");
let mask = null;
find("#start .slot").replaceWith(start.element);
start.addEventListener("change", () => setMask(null));
find("#mask").onclick = mark;
find("#unmask").onclick = () => setMask(null);
setMask(null);

function setMask(blob) {
  mask = blob;
  start.cover(blob);
  find("#unmask").hidden = blob === null;
  for (const name of MASKED) form.fields.get(name).input.closest("label").hidden = blob === null;
  for (const part of ["#start > .buttons", "#start > .fields"])
    find(part).hidden = start.blob === null;
}

async function mark() {
  const painted = await paintMask(find("#masking"), start.blob, mask);
  if (painted !== undefined) setMask(painted);
}

function startFrom(blob) {
  find("#start").open = true;
  start.put(blob);
  start.element.scrollIntoView({ block: "nearest" });
}

// Files with weights.

const loras = new Weighted(offer.loras, "Add a LoRA");
const nets = new Weighted(offer.controlnets, "Add a ControlNet", true);
find("#loras").append(loras.element);
find("#control .list").append(nets.element);
nets.addEventListener("change", () => (find("#control .fields").hidden = !nets.rows.length));
form.addEventListener("model", fitModel);
fitModel();

function fitModel() {
  find("#loras").hidden = !offer.loras.length || !form.model.loras;
  find("#control").hidden = !offer.controlnets.length;
  find("#start").hidden = !form.model.takes_pictures;
  if (form.model.wants_picture) find("#start").open = true;
}

// Painting.

/** What the form asks for, as the server takes it. */
async function order() {
  const asked = {
    ...form.values(),
    model: form.model.name,
    number: form.number,
    loras: loras.chosen,
  };
  const profile = find("#form").profile.value;
  if (profile) asked.profile = profile;
  if (find("#loras").hidden) delete asked.loras;
  if (start.blob && !find("#start").hidden) {
    asked.image = await base64(start.blob);
    if (mask) asked.mask_image = await base64(mask);
  }
  if (nets.rows.length && !find("#control").hidden) {
    asked.controlnets = nets.chosen;
    asked.control_image = await Promise.all(nets.rows.map((row) => followed(row, asked)));
  }
  return asked;
}

/** The picture that a ControlNet follows, or its edges at the size that is painted. */
async function followed({ slot, edges }, { width, height }) {
  if (!slot.blob) throw new Error(t("Give every ControlNet its picture."));
  if (!edges.checked) return base64(slot.blob);
  const image = await createImageBitmap(slot.blob);
  const usual = sized(form.model, image.width, image.height);
  return base64(await api.edges(slot.blob, width ?? usual[0], height ?? usual[1]));
}

function painted(picture) {
  gallery.add(picture);
  showLatest(picture).catch(tell);
  setLastSeed(picture.seed);
  say(find("#news"), "A picture is finished: {prompt}", { prompt: picture.info.prompt ?? "" });
}

/** The newest picture is shown large; a click opens it with its settings. */
async function showLatest(picture) {
  const blob = await blobOf(picture);
  const latest = find("#latest");
  show(latest.firstElementChild, blob);
  latest.hidden = false;
  latest.onclick = () => gallery.open(picture);
}

function setLastSeed(seed) {
  find("#again").disabled = false;
  find("#again").onclick = () => form.set("seed", seed);
}

async function paint() {
  tell();
  find("#paint").disabled = true;
  try {
    const asked = await order();
    const card = showJob(find("#jobs"), await api.submit(asked), painted);
    if (matchMedia("(max-width: 800px)").matches) card.scrollIntoView({ block: "start" });
  } catch (error) {
    tell(error);
  } finally {
    find("#paint").disabled = false;
  }
}

find("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  paint();
});
find("#form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  if (event.ctrlKey || event.metaKey) find("#form").requestSubmit();
  else if (event.target.closest(".axis textarea")) {
    event.preventDefault();
    find("#sheet").click();
  }
});

// Comparing.

const columns = new Axis(form, "Columns");
const rows = new Axis(form, "Rows");
find("#compare .axes").append(columns.element, rows.element);
find("#sheet").onclick = async () => {
  tell();
  try {
    if (find("#form").reportValidity())
      paintSheet(find("#sheets"), await order(), columns, rows, gallery);
  } catch (error) {
    tell(error);
  }
};

// What was painted, and pictures that are brought.

const repeats = { Repeat: repeat, Vary: vary };
const starts = {
  "Image to image": (_, blob) => startFrom(blob),
  Inpaint: (_, blob) => {
    startFrom(blob);
    mark();
  },
  ...(offer.controlnets.length && {
    "Use with ControlNet": (_, blob) => {
      find("#control").open = true;
      nets.add(undefined, 1, blob);
    },
  }),
};
const gallery = new Gallery(find("#gallery"), find("#empty"), (picture) =>
  viewer.open(picture).catch(tell),
);
const viewer = new Viewer(find("#viewer"), gallery, form, { ...repeats, ...starts });
takeAnywhere((blob) => bring(find("#brought"), blob, form, repeats, starts).catch(tell));

/** Fill in how a picture was made; what of it is not available here is told. */
function repeat(settings) {
  const missing = form.fill(settings);
  if (settings.strength !== undefined && !start.blob) missing.push(form.label("image"));
  loras.clear();
  for (const { name, weight } of settings.loras ?? []) {
    if (offer.loras.includes(name)) loras.add(name, weight);
    else missing.push(`LoRA ${name}`);
  }
  tell(
    missing.length
      ? { text: "Not available here: {names}", values: { names: missing.join(", ") } }
      : null,
  );
  find("#form").prompt.scrollIntoView({ block: "center" });
}

function vary(settings) {
  repeat(settings);
  form.set("variation_strength", settings.variation_strength || VARIED);
  form.set("variation_seed", "");
  find("#more").open = true;
}

let older = [];

/** Jobs of before: those that are not over are followed on. */
async function recall() {
  for (const job of await api.jobs()) {
    if (!api.isOver(job)) showJob(find("#jobs"), job, painted);
    const pictures = job.pictures.map((one) => ({
      ...api.pictureOf(job.id, one),
      prompt: job.arguments.prompt,
    }));
    older.push(...pictures.toReversed());
  }
  listOlder();
  const [newest] = gallery.pictures;
  if (newest) setLastSeed((await api.known(newest)).seed);
}

function listOlder() {
  for (const picture of older.splice(0, SHOWN)) gallery.add(picture, { last: true });
  find("#older").hidden = !older.length;
}

find("#older").onclick = listOlder;
find("#forget").hidden = !api.hasKey();
find("#forget").onclick = () => {
  api.forgetKey();
  location.reload();
};
await recall().catch(tell);
document.body.dataset.ready = "";

// Telling.

/** Show what went wrong; nothing takes it away. */
function tell(error = null) {
  const place = find("#error");
  place.hidden = error === null;
  if (error?.text) say(place, error.text, error.values);
  else if (error) say(place, "{message}", { message: error.message });
}

/** What can be chosen; asked for until it is told. */
async function offered() {
  for (;;) {
    try {
      return await api.offer();
    } catch (error) {
      tell(error);
      if (error.status === 401) return new Promise(() => {}); // a reload asks for the key again
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}
