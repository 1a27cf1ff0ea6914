// The chapter "Try it in the page": an image goes through the exported detector, here in the browser. ONNX Runtime, the
// model, its thresholds and the samples lie beside this file (scripts/try_it.py puts them there).
const SIDE = 256; // pixels, of the map

const tryIt = async (widget, base) => {
  const [picture, heat] = widget.querySelectorAll("canvas");
  const [said, slider, rate] = [".said", "input[type=range]", "output"].map((part) => widget.querySelector(part));
  const say = (words) => (said.textContent = words);
  if (location.protocol === "file:")
    return say("A page opened as a file can't load a model: serve the book's folder (python -m http.server) and open it there.");
  const fitted = await (await fetch(`${base}try_it.json`)).json();
  let session, shown; // shown: the image on the canvas, its scores, and what is known of it

  const start = async () => {
    const ort = await import(`${base}ort.wasm.min.mjs`);
    Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: base });
    return { ort, model: await ort.InferenceSession.create(`${base}model.onnx`, { executionProviders: ["wasm"] }) };
  };

  // An image's pixels as the model takes them: [1, 3, row, column] in [0, 1], larger ones reduced to 2048 pixels a side.
  const pixels = (bitmap) => {
    const shrink = Math.min(1, 2048 / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * shrink)));
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const plane = width * height;
    const values = new Float32Array(3 * plane);
    for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) values[c * plane + i] = data[4 * i + c] / 255;
    return [values, [1, 3, height, width]];
  };

  // The boxes [left, top, right, bottom] around pixels above the threshold that touch at a side.
  const boxes = (scores, threshold) => {
    const above = scores.map((score) => score > threshold);
    const found = [];
    for (let first = above.indexOf(1); first >= 0; first = above.indexOf(1)) {
      const [todo, box] = [[first], [SIDE, SIDE, 0, 0]];
      while (todo.length) {
        const at = todo.pop();
        if (!above[at]) continue; // or outside, above or below the image
        above[at] = 0;
        const [x, y] = [at % SIDE, Math.floor(at / SIDE)];
        box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1));
        if (x > 0) todo.push(at - 1);
        if (x < SIDE - 1) todo.push(at + 1);
        todo.push(at - SIDE, at + SIDE);
      }
      found.push(box);
    }
    return found;
  };

  const drawHeat = (scores) => {
    const image = new ImageData(SIDE, SIDE);
    const [low, high] = fitted.scale;
    scores.forEach((score, i) => {
      const level = Math.round(255 * Math.min(1, Math.max(0, (score - low) / (high - low))));
      image.data.set([...fitted.colours[level], 255], 4 * i);
    });
    const small = new OffscreenCanvas(SIDE, SIDE);
    small.getContext("2d").putImageData(image, 0, 0);
    heat.getContext("2d").drawImage(small, 0, 0, heat.width, heat.height);
  };

  const outline = (canvas, box, colour, dash = []) => {
    const context = canvas.getContext("2d");
    const [across, down] = [canvas.width / SIDE, canvas.height / SIDE];
    const [x, y] = [box[0] * across - 2, box[1] * down - 2];
    context.setLineDash(dash);
    for (const [width, style] of [[5, "#000"], [3, colour]]) {
      Object.assign(context, { lineWidth: width, strokeStyle: style });
      context.strokeRect(x, y, (box[2] - box[0]) * across + 4, (box[3] - box[1]) * down + 4);
    }
  };

  const draw = () => {
    const share = fitted.rates[slider.value];
    rate.innerHTML = `10<sup>−${(-Math.log10(share)).toFixed(1)}</sup>, ${(share * SIDE ** 2).toPrecision(2) / 1} pixels of an image`;
    if (!shown) return;
    const { bitmap, name, ships, scores, seconds } = shown;
    for (const canvas of [picture, heat]) canvas.height = Math.round((512 * bitmap.height) / bitmap.width);
    const context = picture.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, 0, 0, picture.width, picture.height);
    drawHeat(scores);
    ships.forEach((box) => outline(picture, box, "#fff", [8, 6]));
    const found = boxes(scores, fitted.thresholds[slider.value]);
    for (const canvas of [picture, heat]) found.forEach((box) => outline(canvas, box, "#ff9d4d"));
    const count = `${found.length} ${found.length === 1 ? "box" : "boxes"}`;
    picture.setAttribute("aria-label", `${name} with ${count}`);
    heat.setAttribute("aria-label", `Score map of ${name}`);
    const highest = scores.reduce((a, b) => Math.max(a, b)).toFixed(4);
    say(`${name}: ${count}; highest score ${highest}; computed in ${seconds.toFixed(2)} s.`);
  };

  const score = async (file, name, ships = []) => {
    if (widget.getAttribute("aria-busy") === "true") return;
    widget.setAttribute("aria-busy", "true");
    try {
      const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
        throw new Error("expected an image that this browser shows (PNG, JPEG, WebP), found another file; convert it");
      });
      say(session ? `${name}: working …` : `${name}: loading the detector …`);
      session ??= await start();
      say(`${name}: working …`);
      await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
      const begun = performance.now();
      const { anomaly_map: map } = await session.model.run({ input: new session.ort.Tensor("float32", ...pixels(bitmap)) });
      shown = { bitmap, name, ships, scores: map.data, seconds: (performance.now() - begun) / 1000 };
      widget.scores = map.data; // for whoever wants the numbers
      widget.querySelector(".seen").hidden = false;
      slider.disabled = false;
      draw();
    } catch (error) {
      say(`${name}: ${error.message}`);
    } finally {
      widget.setAttribute("aria-busy", "false");
    }
  };

  Object.assign(slider, { min: 0, max: fitted.rates.length - 1, value: fitted.rates.findIndex((r) => r < 1.01e-4) });
  slider.addEventListener("input", draw);
  draw();
  for (const { file, title, ships } of fitted.samples) {
    const button = document.createElement("button");
    const image = Object.assign(new Image(), { src: base + file, alt: title, title, className: "dark-light" });
    button.append(image);
    button.addEventListener("click", async () => score(await (await fetch(image.src)).blob(), title, ships));
    widget.querySelector(".samples").append(button);
  }
  const chosen = (files) => files[0] && score(files[0], files[0].name);
  const input = widget.querySelector("input[type=file]");
  input.addEventListener("change", () => chosen(input.files));
  for (const name of ["dragover", "dragleave", "drop"])
    widget.addEventListener(name, (event) => {
      event.preventDefault();
      widget.classList.toggle("over", name === "dragover");
      if (name === "drop") chosen(event.dataTransfer.files);
    });
};

const besideTryIt = new URL("try_it/", document.currentScript.src).href;
window.addEventListener("DOMContentLoaded", () => {
  const widget = document.getElementById("try-it");
  if (widget) tryIt(widget, besideTryIt);
});
