// Jobs that wait or are painted: where they stand, what the picture looks like so far, and Stop.

import * as api from "./api.js";
import { button, element } from "./dom.js";
import { show } from "./slot.js";
import { say, t } from "./words.js";

const TITLE = document.title;

/** Follow a job to its end. `listener` is called with what happens, by name: status(status, number
 * of finished pictures), preview(blob), picture(see `api.pictureOf`), withheld(), failed(message). */
export async function watch(id, listener) {
  const finished = new Set();
  for await (const { event, data } of api.follow(id)) {
    if (event === "queued" || event === "progress") listener.status?.(data, finished.size);
    if (event === "preview") listener.preview?.(api.unpacked(data.jpeg));
    if (event === "picture" && !finished.has(data.index)) {
      finished.add(data.index);
      if (data.withheld) listener.withheld?.();
      else await listener.picture?.(api.pictureOf(id, data));
    }
    if (event === "failed") listener.failed?.(data.error);
  }
}

/** Show a job until it is over; `painted` is called with each of its pictures. */
export function showJob(root, { id, number, arguments: asked }, painted) {
  const preview = element("img", { className: "preview", alt: "", hidden: true });
  const line = element("p");
  const bar = element("progress", { max: 1, label: "Progress" });
  const stop = button("Stop", () => api.cancel(id).catch(() => {}), { className: "stop" });
  const prompt = element("p", { className: "prompt", textContent: asked.prompt ?? "" });
  const card = element("div", { className: "job card" }, preview, line, stop, bar, prompt);
  root.append(card);
  say(line, "Waiting");

  const failed = (message) => {
    card.classList.add("failed");
    line.role = "alert";
    say(line, "It failed: {message}", { message });
    bar.remove();
    stop.replaceWith(button("Close", () => card.remove(), { className: "quiet" }));
  };
  let withheld = false;
  watch(id, {
    status: (status, finished) => {
      showProgress(bar, status);
      describe(line, status, number, finished);
    },
    preview: (blob) => show(preview, blob),
    picture: painted,
    withheld: () => (withheld = true),
    failed,
  })
    .then(() => withheld && failed(t("the model's safety checker withholds it")))
    .catch((error) => failed(error.message))
    .finally(() => {
      document.title = TITLE;
      if (!card.classList.contains("failed")) card.remove();
    });
  return card;
}

/** How far a job is: in its bar, and in the page's title, which is seen from other tabs. */
function showProgress(bar, { state, step, progress }) {
  if (state !== "waiting") document.title = `${Math.floor(progress * 100)} % – ${TITLE}`;
  if (state === "waiting" || !step) bar.removeAttribute("value");
  else bar.value = progress;
}

/** Say where a job of `number` pictures stands. */
function describe(line, { state, ahead, seconds, step, steps, stage }, number, finished) {
  const left = seconds == null ? "" : () => t(", about {time} left", { time: duration(seconds) });
  const one = Math.min(finished + 1, number);
  const which = number > 1 ? () => t("Picture {one} of {number}: ", { one, number }) : "";
  const waiting = ahead ? "Waiting behind {ahead}{left}" : "Waiting{left}";
  if (state === "waiting") say(line, waiting, { ahead, left });
  else if (stage === "load") say(line, "{which}loading the model{left}", { which, left });
  else if (!step) say(line, "{which}starting{left}", { which, left });
  else say(line, "{which}step {step} of {steps}{left}", { which, step, steps, left });
}

/** Seconds as "40 s" or "3 min". */
function duration(seconds) {
  return seconds < 90
    ? t("{n} s", { n: Math.max(1, Math.round(seconds)) })
    : t("{n} min", { n: Math.round(seconds / 60) });
}
