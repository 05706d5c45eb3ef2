"use strict";

const byId = (id) => document.getElementById(id);
const status = byId("status");
const error = byId("error");
const picture = byId("picture");
const explain = byId("explain");

let model = null; // what /v1/model says
let current = null; // the image being looked at: {file, plain, answer, heat}
let turn = 0; // answers to earlier images are dropped

function say(text) {
  status.textContent = text;
}

function complain(text) {
  error.textContent = text;
  error.hidden = !text;
  if (text) say("");
}

async function reasonOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answered ${response.status}`;
  }
}

async function ask(path, file) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/octet-stream" },
    body: file,
  });
  if (!response.ok) throw new Error(await reasonOf(response));
  return response;
}

function forget(image) {
  for (const url of [image.plain, image.heat]) if (url) URL.revokeObjectURL(url);
}

async function classify(file) {
  const mine = ++turn;
  complain("");
  if (model && file.size > model.body_bytes) {
    complain(`${file.name || "The image"} is larger than ${(model.body_bytes / 2 ** 20).toFixed(0)} MiB.`);
    return;
  }
  say("Classifying…");
  const started = performance.now();
  try {
    const response = await ask("v1/classify?topk=5", file);
    const answer = await response.json();
    const total = performance.now() - started;
    if (mine !== turn) return;
    if (current) forget(current);
    current = { file, plain: URL.createObjectURL(file), answer, heat: null };
    show(total);
    if (explain.checked) await showHeat();
  } catch (problem) {
    if (mine === turn) complain(`Not classified: ${problem.message}`);
  }
}

function show(total) {
  const { answer, file, plain } = current;
  const { width, height, format } = answer.image;
  picture.src = plain;
  picture.alt = `The image you gave${file.name ? `: ${file.name}` : ""}`;
  picture.classList.toggle("small", Math.max(width, height) <= 96);
  byId("caption").textContent = `${file.name || "pasted image"}, ${width}×${height}, ${format}`;
  byId("classes").replaceChildren(...answer.classes.map(row));
  const { receive, decode, queue, compute } = answer.milliseconds;
  const batch = answer.batch > 1 ? ` for ${answer.batch} images` : "";
  byId("latency").textContent =
    `${total.toFixed(0)} ms in all: ${receive.toFixed(1)} receiving, ${decode.toFixed(1)} decoding, ` +
    `${queue.toFixed(1)} waiting, ${compute.toFixed(1)} computing${batch}.`;
  byId("result").hidden = false;
  const [first] = answer.classes;
  say(`${first.name}, ${(100 * first.probability).toFixed(1)} %`);
}

function row({ name, probability }) {
  const percent = `${(100 * probability).toFixed(1)} %`;
  const item = document.createElement("li");
  const words = document.createElement("div");
  words.className = "words";
  for (const [kind, text] of [["name", name], ["share", percent]]) {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    words.append(span);
  }
  const track = document.createElement("div");
  track.className = "track";
  track.setAttribute("aria-hidden", "true"); // the words say it
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.style.width = `${100 * probability}%`;
  track.append(bar);
  item.append(words, track);
  return item;
}

async function showHeat() {
  const image = current;
  if (!image) return;
  const [first] = image.answer.classes;
  if (!image.heat) {
    say("Computing Grad-CAM…");
    try {
      const response = await ask(`v1/explain?label=${first.index}`, image.file);
      image.heat = URL.createObjectURL(await response.blob());
    } catch (problem) {
      explain.checked = false;
      complain(`Not explained: ${problem.message}`);
      return;
    }
  }
  if (image !== current || !explain.checked) return;
  picture.src = image.heat;
  picture.alt = `Grad-CAM over the image: bright places count for ${first.name}`;
  say(`Bright places count for ${first.name}.`);
}

explain.addEventListener("change", () => {
  if (explain.checked) {
    showHeat();
  } else if (current) {
    picture.src = current.plain;
    picture.alt = "The image you gave";
    say("");
  }
});

for (const id of ["file", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) classify(file);
    event.target.value = ""; // the same file may be chosen again
  });
}

const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" || !event.relatedTarget) drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (file) classify(file);
  else complain("Not classified: what was dropped is no file.");
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) classify(file);
});

async function introduce() {
  try {
    const response = await fetch("v1/model");
    if (!response.ok) throw new Error(await reasonOf(response));
    model = await response.json();
  } catch (problem) {
    byId("model").textContent = "";
    complain(`The server does not answer: ${problem.message}`);
    return;
  }
  const [height, width] = model.image_size;
  byId("model").textContent =
    `${model.model}, ${model.classes.length} classes, ${height}×${width} pixels, ${model.backend}`;
  byId("accepted").textContent =
    `${model.formats.join(", ")}; up to ${(model.body_bytes / 2 ** 20).toFixed(0)} MiB ` +
    `and ${(model.pixels / 1e6).toFixed(0)} megapixels.`;
  byId("explain-row").hidden = !model.explains;
}

introduce();
