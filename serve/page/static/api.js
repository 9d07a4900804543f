// The server, as the page asks it.

import { t } from "./words.js";

const STORED = "pleinair.key";
const PATIENCE = 2000; // milliseconds until a lost connection is tried again
const STREAMS = 2; // at once: browsers have six connections to a server, for all its pages

/** A request that was refused: the server's own words, and when it may be asked again. */
export class Refused extends Error {
  constructor(message, status, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

let streams = 0;
let askForKey = async () => null;

/** Who is asked for a key where the server wants one: a function that gives it, or null. */
export function keyFrom(ask) {
  askForKey = ask;
}

export const hasKey = () => localStorage.getItem(STORED) !== null;

export function forgetKey() {
  localStorage.removeItem(STORED);
}

async function ask(path, options = {}) {
  const key = localStorage.getItem(STORED);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(t("The server does not answer."), 0, PATIENCE / 1000);
  }
  if (answer.status === 401) {
    const given = await askForKey(key !== null);
    if (given === null) throw new Refused(t("The server wants a key: reload the page to give one."), 401);
    localStorage.setItem(STORED, given);
    return ask(path, options);
  }
  if (!answer.ok) throw await refused(answer);
  return answer;
}

async function refused(answer) {
  const text = await answer.text();
  let message = text;
  try {
    const body = JSON.parse(text);
    const detail = Array.isArray(body.detail)
      ? body.detail.map((one) => `${(one.loc ?? []).slice(1).join(".")}: ${one.msg}`).join("; ")
      : body.detail;
    message = body.error?.message ?? detail ?? body.message ?? text;
  } catch {
    message = text.slice(0, 200) || answer.statusText;
  }
  const after = Number(answer.headers.get("Retry-After"));
  return new Refused(message, answer.status, after || undefined);
}

async function json(path, options) {
  return (await ask(path, options)).json();
}

/** What can be chosen here. */
export const offer = () => json("page/offer");

/** What a picture file says of how it was made, for a model; null where it says nothing. */
export async function read(blob, model) {
  try {
    return await json(`page/read?model=${encodeURIComponent(model)}`, {
      method: "POST",
      body: blob,
    });
  } catch (error) {
    if (error.status === 400) return null;
    throw error;
  }
}

/** A picture's edges, of a size. */
export async function edges(blob, width, height) {
  const path = `page/edges?width=${width}&height=${height}`;
  return (await ask(path, { method: "POST", body: blob })).blob();
}

export async function picture(path) {
  return (await ask(path)).blob();
}

/** A server-sent event as it comes: {event, data}. */
async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r\n", "\n");
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const event = parsed(text.slice(0, end));
      text = text.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  const data = [];
  let event = "message";
  for (const line of block.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    if (line.startsWith("event:")) event = line.slice(6).trim();
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

/** Accept an order; 429 is waited out where `patient`. */
export async function submit(order, patient = false) {
  const headers = { "Content-Type": "application/json" };
  for (;;) {
    try {
      return await json("v1/jobs", { method: "POST", headers, body: JSON.stringify(order) });
    } catch (error) {
      if (!patient || error.status !== 429) throw error;
      await pause((error.after ?? 5) * 1000);
    }
  }
}

const OVER = ["done", "failed", "cancelled"];

export const isOver = ({ state }) => OVER.includes(state);

export const cancel = (id) => ask(`v1/jobs/${id}`, { method: "DELETE" });

/** The jobs of this client, newest first. */
export const jobs = async () => (await json("v1/jobs?limit=1000")).data;

/** A job's events until it is over; a connection that is lost is taken up again. */
export async function* follow(id) {
  for (;;) {
    try {
      for await (const one of streams < STREAMS ? streamed(id) : asked(id)) {
        yield one;
        if (OVER.includes(one.event)) return;
      }
    } catch (error) {
      if (error.status && error.status < 500) throw error; // no lost connection, no restart
    }
    await pause(PATIENCE);
  }
}

async function* streamed(id) {
  streams += 1;
  try {
    yield* eventsOf(await ask(`v1/jobs/${id}/events`));
  } finally {
    streams -= 1;
  }
}

/** What a stream would tell, of a job as it is now. */
async function* asked(id) {
  const job = await json(`v1/jobs/${id}`);
  for (const picture of job.pictures) yield { event: "picture", data: picture };
  const event = { waiting: "queued", painting: "progress" }[job.state] ?? job.state;
  yield { event, data: job };
}

/** A finished picture of a job, as the page knows it. */
export const pictureOf = (id, { url, index, info, seed }) => ({
  path: url.replace(/^\//, ""),
  id,
  index,
  info,
  seed,
});

/** A picture with how it was made, which lists leave out. */
export async function known(picture) {
  if (picture.info) return picture;
  const { pictures } = await json(`v1/jobs/${picture.id}`);
  return Object.assign(
    picture,
    pictureOf(
      picture.id,
      pictures.find((one) => one.index === picture.index),
    ),
  );
}

/** A JPEG file of base64. */
export function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/jpeg" });
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
