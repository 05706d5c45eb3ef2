// Loads model.onnx (or ?model=FILE) and its proof FILE.json, which says how images are prepared and names the
// classes, and classifies the image that the user chooses. Everything runs in this page, in WebAssembly.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;
// Threads need a page that is isolated from others (headers COOP and COEP).
ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

const TOP = 5;
const element = (id) => document.getElementById(id);

function fail(error) {
  element("error").textContent = error.message ?? String(error);
}

/** The header of the export, with its JSON values read. */
async function readHeader(file) {
  const answer = await fetch(`${file}.json`);
  if (!answer.ok) throw new Error(`There is no ${file}.json beside the model: export it with recnext export.`);
  const { header } = await answer.json();
  const texts = new Set(["model", "interpolation", "precision", "version"]);
  return Object.fromEntries(Object.entries(header).map(([key, value]) => {
    const name = key.replace("recnext.", "");
    return [name, texts.has(name) ? value : JSON.parse(value)];
  }));
}

async function openModel(file) {
  const header = await readHeader(file);
  if (!header.classifier) throw new Error(`${file} gives maps, not classes.`);
  if (header.input_size[0] !== 3) throw new Error(`${file} takes images of ${header.input_size[0]} channels, not RGB.`);
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  const [, height, width] = header.input_size;
  const nothing = toTensor(new Uint8ClampedArray(4 * height * width), header);
  await session.run({ [session.inputNames[0]]: nothing }); // the first run allocates; the next ones are timed
  return { session, header };
}

/** Resizes the shorter side, cuts out the centre, and gives RGBA pixels; as in evaluation but for the browser's filter. */
function prepare(image, header) {
  const [, height, width] = header.input_size;
  const scale = Math.max(height / header.crop_pct / image.height, width / header.crop_pct / image.width);
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // transparent images are seen over white, as in training
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const [w, h] = [image.width * scale, image.height * scale];
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  return context.getImageData(0, 0, width, height).data;
}

/** RGBA pixels as the model's input: uint8 (1, H, W, 3), or normalised float32 (1, 3, H, W). */
function toTensor(rgba, header) {
  const [channels, height, width] = header.input_size;
  const area = height * width;
  const values = header.preprocess ? new Uint8Array(3 * area) : new Float32Array(3 * area);
  for (let pixel = 0; pixel < area; pixel += 1) {
    for (let c = 0; c < channels; c += 1) {
      const value = rgba[4 * pixel + c];
      if (header.preprocess) values[3 * pixel + c] = value;
      else values[c * area + pixel] = (value / 255 - header.mean[c]) / header.std[c];
    }
  }
  return header.preprocess
    ? new ort.Tensor("uint8", values, [1, height, width, 3])
    : new ort.Tensor("float32", values, [1, 3, height, width]);
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

/** The likeliest classes, the first one first: {name, probability}. */
async function classify({ session, header }, image) {
  const tensor = toTensor(prepare(image, header), header);
  const started = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: tensor });
  const milliseconds = performance.now() - started;
  const values = outputs[session.outputNames[0]].data;
  const probabilities = header.preprocess ? Array.from(values) : softmax(values);
  const classes = probabilities
    .map((probability, index) => ({ name: header.class_names?.[index] ?? `class ${index}`, probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, TOP);
  return { classes, milliseconds };
}

function show({ classes, milliseconds }) {
  element("classes").replaceChildren(...classes.map(({ name, probability }) => {
    const row = document.createElement("li");
    const [label, share, meter] = ["span", "span", "meter"].map((tag) => document.createElement(tag));
    label.textContent = name;
    share.textContent = `${(100 * probability).toFixed(1)} %`;
    meter.value = probability;
    row.append(label, share, meter);
    return row;
  }));
  element("time").textContent = `${milliseconds.toFixed(1)} ms, WebAssembly, threads: ${ort.env.wasm.numThreads}`;
}

async function main() {
  const file = new URLSearchParams(location.search).get("model") ?? "model.onnx";
  const model = await openModel(file);
  const input = element("file");
  const drop = element("drop");
  const open = async (chosen) => {
    if (!chosen) return;
    element("error").textContent = "";
    try {
      const image = await createImageBitmap(chosen);
      drop.classList.add("shown");
      show(await classify(model, image));
    } catch (error) {
      element("classes").replaceChildren();
      fail(error instanceof DOMException ? new Error(`${chosen.name} is not an image this browser reads.`) : error);
    }
  };
  input.addEventListener("change", () => open(input.files[0]));
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
  input.disabled = false;
  element("model").textContent = `${model.header.model}, ${model.header.precision}, ${model.header.input_size.slice(1).join("x")} pixels`;
}

main().catch((error) => {
  element("model").textContent = "";
  fail(error);
});
