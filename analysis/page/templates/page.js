// Tables and figures: numbers that Python computed, as tables that can be copied, and figures that can be downloaded.
let figures = {}, numbers = {};

function table(columns) {
  const names = Object.keys(columns);
  const value = (name, row) => Array.isArray(columns[name]) ? columns[name][row] : columns[name].names[columns[name].index[row]];
  const first = columns[names[0]] ?? [];
  const length = (Array.isArray(first) ? first : first.index).length;
  return Array.from({ length }, (_, row) => Object.fromEntries(names.map(name => [name, value(name, row)])));
}

const bytesOf = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

async function unpack(id) {
  const plain = new Blob([bytesOf(document.getElementById(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).json();
}

const NUMERIC = /^[+−-]?[\d.,]+$/;

function build(element, names, rows) {
  const head = document.createElement("tr"), body = document.createElement("tbody"), top = document.createElement("thead");
  const numeric = names.map((_, index) => rows.length > 0 && rows.every(row => row[index] === "" || NUMERIC.test(row[index])));
  names.forEach((name, index) => {
    const cell = document.createElement("th");
    cell.scope = "col"; cell.textContent = name; cell.className = numeric[index] ? "number" : "";
    head.append(cell);
  });
  for (const row of rows) {
    const line = document.createElement("tr");
    row.forEach((value, index) => {
      const cell = document.createElement("td");
      cell.textContent = value; cell.className = numeric[index] ? "number" : "";
      line.append(cell);
    });
    body.append(line);
  }
  top.append(head);
  element.replaceChildren(...element.querySelectorAll("caption"), top, body);
}

// The tables of the static figures are built when they are opened, so that the page opens faster.
for (const details of document.querySelectorAll("details[data-figure]")) {
  details.addEventListener("toggle", () => {
    const found = details.querySelector("table");
    if (!details.open || found.tBodies.length) return;
    const { columns, rows } = numbers[details.dataset.figure];
    build(found, columns, rows);
  });
}

// An apostrophe stands before texts that a spreadsheet would take for formulas; numbers and intervals are none.
const FORMULA = /^[-=+@\t\r\n\uff0b\uff0d\uff1d\uff20]/, NUMBERS = /^(?:[-+−\d.,%()[\] ]|\de[-+\d]| to )+$/;

function plain(value) {
  if (NUMERIC.test(value)) return value.replace("−", "-").replaceAll(",", "");
  return FORMULA.test(value) && !NUMBERS.test(value) ? `'${value}` : value;
}

function asText(found, between) {
  const quoted = value => value.includes(between) || /["\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const lines = [...found.querySelectorAll("tr")].map(row => [...row.cells].map(cell => quoted(plain(cell.textContent))).join(between));
  return lines.join("\n") + "\n";
}

async function copy(found, status) {
  const text = asText(found, "\t");
  try {
    await navigator.clipboard.writeText(text);
    status.textContent = "Copied.";
  } catch {
    status.textContent = "The browser did not allow copying; download the CSV instead.";
  }
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const tools of document.querySelectorAll(".tools[data-of]")) {
  const found = document.getElementById(tools.dataset.of), status = tools.querySelector("output");
  tools.querySelector(".copy").addEventListener("click", () => copy(found, status));
  tools.querySelector(".download").addEventListener("click", () =>
    download(new Blob([asText(found, ",")], { type: "text/csv" }), `${tools.dataset.name}.csv`));
}

// Figures: a chart that is drawn in the page, or one that Python drew.
const INCH = 300 / 96;

function svgOf(figure) {
  const inline = figure.querySelector("svg.broad") ?? figure.querySelector("svg.drawn");
  return inline ? new XMLSerializer().serializeToString(inline) : figures[figure.dataset.name].svg;
}

// A picture has its bytes in the page.
function pngIn(image) {
  return new Blob([bytesOf(image.src.slice(image.src.indexOf(",") + 1))], { type: "image/png" });
}

async function pngOf(svg) {
  const image = new Image(), address = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = Math.round(image.naturalWidth * INCH);
  canvas.height = Math.round(image.naturalHeight * INCH);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(address);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}

for (const tools of document.querySelectorAll(".tools.saving")) {
  const figure = tools.closest("figure"), name = figure.dataset.name, image = figure.querySelector("img.picture");
  tools.querySelector(".svg")?.addEventListener("click", () => download(new Blob([svgOf(figure)], { type: "image/svg+xml" }), `${name}.svg`));
  tools.querySelector(".png").addEventListener("click", async () => download(image ? pngIn(image) : await pngOf(svgOf(figure)), `${name}.png`));
}

// On a narrow screen a figure of several panels is shown panel by panel: parts of the same drawing, one below the other.
const phone = matchMedia("screen and (max-width: 700px)");
const BOX = /width="[^"]*" height="[^"]*" viewBox="[^"]*"/;

function parts(figure, apart) {
  if (!apart || figure.boxes.length === 0) return [figure.svg];
  return figure.boxes.map(([left, top, width, height]) =>
    figure.svg.replace(BOX, `width="${width}pt" height="${height}pt" viewBox="${left} ${top} ${width} ${height}"`));
}

function place(apart) {
  for (const spot of document.querySelectorAll(".wide[data-figure]")) {
    const words = spot.getAttribute("aria-label"), found = parts(figures[spot.dataset.figure], apart);
    spot.replaceChildren(...found.map((svg, at) => {
      const image = new Image();
      image.alt = found.length > 1 ? `${words}: part ${at + 1} of ${found.length}` : words;
      image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
      image.classList.toggle("strip", apart && figures[spot.dataset.figure].boxes[at]?.[3] < 60);
      return image;
    }));
  }
}

async function begin() {
  const packed = document.getElementById("packed");
  if (packed) {
    const found = await unpack("packed");
    ({ figures = {}, numbers = {}, style = null } = found);
    place(phone.matches);
    phone.addEventListener("change", () => place(phone.matches));
    if (form) return startCurves(found);
  }
  document.body.dataset.ready = "yes";
}

begin();
