"use strict";

// Draws openapi.json: paths, parameters, bodies, answers. Nothing is loaded from elsewhere.

function element(kind, text, ...children) {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function table(heads, rows) {
  const body = rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", cell))));
  const head = element("tr", "", ...heads.map((name) => element("th", name)));
  for (const cell of head.children) cell.scope = "col";
  const whole = element("table", "", element("thead", "", head), element("tbody", "", ...body));
  const around = element("div", "", whole);
  around.className = "scroll";
  return around;
}

function kindOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kindOf).filter((kind) => kind !== "null").join(" or ");
  if (schema.type === "array") return `list of ${kindOf(schema.items) || "values"}`;
  return schema.format || schema.type || "any";
}

function bounds({ minimum, maximum, default: usual }) {
  const parts = [];
  if (minimum !== undefined) parts.push(`from ${minimum}`);
  if (maximum !== undefined) parts.push(`to ${maximum}`);
  if (usual !== undefined) parts.push(`by default ${usual}`);
  return parts.join(", ");
}

function describe(path, method, operation) {
  const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", operation.summary));
  if (operation.parameters) {
    section.append(element("h3", "Parameters"));
    const rows = operation.parameters.map(({ name, schema, description }) => {
      const one = schema.anyOf ? { ...schema.anyOf[0], ...schema } : schema;
      return [name, kindOf(schema), bounds(one), description || ""];
    });
    section.append(table(["name", "type", "values", "meaning"], rows));
  }
  if (operation.requestBody) {
    section.append(element("h3", "Body"), element("p", Object.keys(operation.requestBody.content).join(", ")));
  }
  section.append(element("h3", "Answers"));
  const rows = Object.entries(operation.responses).map(([status, { description, content }]) => {
    const [kind, { schema } = {}] = Object.entries(content || {})[0] || [""];
    return [status, description, kind, kindOf(schema)];
  });
  section.append(table(["status", "meaning", "media type", "object"], rows));
  return section;
}

function describeObject(name, schema) {
  const rows = Object.entries(schema.properties || {}).map(([field, part]) => [field, kindOf(part), part.description || ""]);
  return element("section", "", element("h3", name), element("p", schema.description), table(["field", "type", "meaning"], rows));
}

async function draw() {
  const api = await (await fetch("openapi.json")).json();
  document.getElementById("about").textContent = `${api.info.title} ${api.info.version}. ${api.info.description}`;
  const address = new URL("v1/classify", document.baseURI);
  document.getElementById("example").textContent = `curl --data-binary @photo.jpg -H 'content-type: image/jpeg' ${address}`;
  const place = document.getElementById("paths");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) place.append(describe(path, method, operation));
  }
  place.append(element("h2", "Objects"));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    if (!name.includes("ValidationError")) place.append(describeObject(name, schema));
  }
}

draw().catch((problem) => {
  document.getElementById("about").textContent = `The description could not be drawn: ${problem.message}`;
});
