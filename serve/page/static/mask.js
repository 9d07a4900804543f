// Painting a mask with mouse, pen or finger: what is painted over is painted anew.

import { button, element, png } from "./dom.js";

const COLOUR = [255, 0, 220]; // which few pictures have
const LEAST = 512; // dots along the longer side of the canvas: small pictures are painted on enlarged
const MOST = 1024; // and of the mask: a photograph's need be no finer

/** Show a picture in a dialog and let a mask be painted on it, going on with `before`.
 * Gives a PNG, white on black; null where nothing is marked, undefined where it is left as it was. */
export async function paintMask(dialog, picture, before = null) {
  const image = await createImageBitmap(picture);
  const { width, height } = scaled(image, LEAST, MOST);
  const shown = element("canvas", { width, height });
  shown.getContext("2d").drawImage(image, 0, 0, width, height);
  const paint = element("canvas", { width, height, className: "paint" });
  const pen = paint.getContext("2d", { willReadFrequently: true });
  const strokes = [];
  if (before) await takeUp(pen, before);

  const size = element("input", { type: "range", min: 1, max: 100, value: 12 });
  const eraser = element("input", { type: "checkbox" });
  const brush = () => (Number(size.value) / 100) * Math.max(width, height) * 0.6;
  draw(paint, pen, brush, () => eraser.checked, strokes);

  return new Promise((resolve) => {
    const leave = (mask) => {
      dialog.onclose = null;
      dialog.close();
      resolve(mask);
    };
    const undo = button("Undo", () => strokes.length && pen.putImageData(strokes.pop(), 0, 0));
    const nothing = button("Clear", () => {
      strokes.push(pen.getImageData(0, 0, width, height));
      pen.clearRect(0, 0, width, height);
    });
    const done = button("Done", async () => leave(await finished(paint, scaled(image, 1, MOST))), {
      className: "main",
    });
    dialog.onkeydown = (event) => {
      if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      undo.click();
    };
    dialog.replaceChildren(
      element("h2", { t: "Paint over what should change" }),
      element("div", { className: "easel" }, shown, paint, ring(paint, brush)),
      element(
        "div",
        { className: "buttons" },
        element("label", { className: "brush" }, element("span", { t: "Brush" }), size),
        element("label", { className: "truth" }, eraser, element("span", { t: "Eraser" })),
        undo,
        nothing,
        button("Cancel", () => leave(undefined)),
        done,
      ),
    );
    dialog.onclose = () => resolve(undefined);
    dialog.showModal();
  });
}

/** A ring of the brush's size about the pointer; fingers cover theirs. */
function ring(canvas, brush) {
  const made = element("div", { className: "ring", hidden: true });
  canvas.addEventListener("pointermove", ({ pointerType, offsetX, offsetY }) => {
    const across = (brush() / canvas.width) * canvas.clientWidth;
    made.hidden = pointerType === "touch";
    Object.assign(made.style, {
      width: `${across}px`,
      left: `${canvas.offsetLeft + offsetX}px`,
      top: `${canvas.offsetTop + offsetY}px`,
    });
  });
  canvas.addEventListener("pointerleave", () => (made.hidden = true));
  return made;
}

function draw(canvas, pen, brush, erases, strokes) {
  let last = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const stroke = (to) => {
    pen.globalCompositeOperation = erases() ? "destination-out" : "source-over";
    Object.assign(pen, {
      strokeStyle: `rgb(${COLOUR.join(" ")})`,
      lineWidth: brush(),
      lineCap: "round",
    });
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...to);
    pen.stroke();
    last = to;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    strokes.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    if (strokes.length > 20) strokes.shift();
    last = at(event);
    stroke(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(at(one));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => (last = null));
  }
}

/** A mask, white on black, becomes paint. */
async function takeUp(pen, mask) {
  const { width, height } = pen.canvas;
  pen.drawImage(await createImageBitmap(mask), 0, 0, width, height);
  const dots = pen.getImageData(0, 0, width, height);
  for (let i = 0; i < dots.data.length; i += 4) {
    dots.data.set([...COLOUR, dots.data[i] > 127 ? 255 : 0], i);
  }
  pen.putImageData(dots, 0, 0);
}

/** A size in a picture's shape, its longer side within bounds. */
function scaled(image, least, most) {
  const longer = Math.max(image.width, image.height);
  const scale = Math.min(Math.max(longer, least), most) / longer;
  const [width, height] = [image.width, image.height].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  return { width, height };
}

/** The paint as a mask of a size; null where there is none. */
async function finished(paint, { width, height }) {
  const mask = element("canvas", { width, height });
  const pen = mask.getContext("2d");
  pen.drawImage(paint, 0, 0, width, height);
  const dots = pen.getImageData(0, 0, width, height);
  let any = false;
  for (let i = 0; i < dots.data.length; i += 4) {
    const value = dots.data[i + 3] > 127 ? 255 : 0;
    any ||= value > 0;
    dots.data.set([value, value, value, 255], i);
  }
  pen.putImageData(dots, 0, 0);
  return any ? png(mask) : null;
}
