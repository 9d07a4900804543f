// Jobs that wait or are painted: where they stand, what the picture looks like so far, and Stop.

import * as api from "./api.js";
import { button, element } from "./dom.js";
import { show } from "./slot.js";
import { say, t } from "./words.js";

const NAME = document.title;

/** Follow a job to its end. heard: what is told of it, by name:
 * stands(status, pictures that are done), previewed(blob), picture(see `api.pictureOf`), withheld(),
 * failed(message). */
export async function watch(id, heard) {
  const told = new Set();
  for await (const { event, data } of api.follow(id)) {
    if (event === "queued" || event === "progress") heard.stands?.(data, told.size);
    if (event === "preview") heard.previewed?.(api.unpacked(data.jpeg));
    if (event === "picture" && !told.has(data.index)) {
      told.add(data.index);
      if (data.withheld) heard.withheld?.();
      else await heard.picture?.(api.pictureOf(id, data));
    }
    if (event === "failed") heard.failed?.(data.error);
  }
}

/** Show a job until it is over; `painted` is called with each of its pictures. */
export function showJob(root, { id, number, arguments: asked }, painted) {
  const look = element("img", { className: "look", alt: "", hidden: true });
  const place = element("p");
  const bar = element("progress", { max: 1, label: "Progress" });
  const stop = button("Stop", () => api.cancel(id).catch(() => {}), { className: "stop" });
  const card = element(
    "div",
    { className: "job card" },
    look,
    place,
    stop,
    bar,
    element("p", { className: "prompt", textContent: asked.prompt ?? "" }),
  );
  root.append(card);
  say(place, "Waiting");

  const failed = (message) => {
    card.classList.add("failed");
    place.role = "alert";
    say(place, "It failed: {message}", { message });
    bar.remove();
    stop.replaceWith(button("Close", () => card.remove(), { className: "quiet" }));
  };
  watch(id, {
    stands: (status, done) => stands(place, bar, status, number, done),
    previewed: (blob) => show(look, blob),
    picture: painted,
    withheld: () => failed(t("the model's safety checker withholds it")),
    failed,
  })
    .catch((error) => failed(error.message))
    .finally(() => {
      document.title = NAME;
      if (!card.classList.contains("failed")) card.remove();
    });
  return card;
}

function stands(place, bar, { state, ahead, seconds, step, steps, stage, progress }, number, done) {
  const left = seconds == null ? "" : () => t(", about {time} left", { time: duration(seconds) });
  if (state === "waiting") {
    bar.removeAttribute("value");
    say(place, ahead ? "Waiting behind {ahead}{left}" : "Waiting{left}", { ahead, left });
    return;
  }
  if (!step) bar.removeAttribute("value");
  else bar.value = progress;
  document.title = `${Math.floor(progress * 100)} % – ${NAME}`; // seen while another tab is
  const which =
    number > 1
      ? () => t("Picture {one} of {number}: ", { one: Math.min(done + 1, number), number })
      : "";
  if (stage === "load") say(place, "{which}loading the model{left}", { which, left });
  else if (!step) say(place, "{which}starting{left}", { which, left });
  else say(place, "{which}step {step} of {steps}{left}", { which, step, steps, left });
}

/** Seconds as "40 s" or "3 min". */
function duration(seconds) {
  return seconds < 90
    ? t("{n} s", { n: Math.max(1, Math.round(seconds)) })
    : t("{n} min", { n: Math.round(seconds / 60) });
}
