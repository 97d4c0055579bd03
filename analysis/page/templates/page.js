"use strict";
// The page's controls: filter the numbers that Python computed, and pass them to Vega. The script does no statistics.
const LAST = "last", ALL = "all";
let deltaRows = [], accuracyRows = [], figures = {}, updates = 0;
const views = {};

function table(columns) {
  const names = Object.keys(columns);
  const value = (name, row) => Array.isArray(columns[name]) ? columns[name][row] : columns[name].names[columns[name].index[row]];
  const first = columns[names[0]] ?? [];
  const length = (Array.isArray(first) ? first : first.index).length;
  return Array.from({ length }, (_, row) => Object.fromEntries(names.map(name => [name, value(name, row)])));
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), letter => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).json();
}

const choices = () => Object.fromEntries([...document.querySelectorAll("#choices select")].map(one => [one.name, one.value]));
const size = row => row.images === -1 ? `all (${row.images_used.toLocaleString("en")})` : row.images.toLocaleString("en");
const signed = value => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const matches = (row, chosen) => row.blocks === Number(chosen.blocks)
  && (chosen.dataset === ALL || row.dataset === chosen.dataset)
  && [undefined, ALL, row.variant].includes(chosen.variant);
const atEpoch = (row, chosen) => chosen.epoch === LAST ? row.epoch === row.epochs : row.epoch === Number(chosen.epoch);
const first = document.querySelector("#choices select[name=variant]")?.dataset.first;

function point(row, x, mean, band, arm, role, unit) {
  const known = row.half !== null;
  const low = known ? mean - row.half : null, high = known ? mean + row.half : null;
  const told = unit === "delta" ? signed : value => value.toFixed(2);
  return { dataset: row.dataset, variant: row.variant, hollow: first !== undefined && row.variant !== first, arm, role, x, mean, low, high,
    low_band: known && band !== null ? mean - band : null, high_band: known && band !== null ? mean + band : null,
    n: row.n, unpaired: row.unpaired, size: size(row), images: row.images, epoch: row.epoch,
    interval: known ? `${told(low)} to ${told(high)}` : "none (single value)" };
}

// Deltas are stored once for each pair of sources; the opposite direction has the opposite sign.
function deltas(chosen, x, keep) {
  const rows = [];
  for (const row of deltaRows) {
    const sign = row.source === chosen.source && row.baseline === chosen.baseline ? 1
      : row.source === chosen.baseline && row.baseline === chosen.source ? -1 : 0;
    if (!sign || !matches(row, chosen) || !keep(row)) continue;
    const band = x === "images_used" && chosen.epoch === LAST ? row.band_last : x === "images_used" ? row.band : null;
    rows.push(point(row, row[x], sign * row.mean, band, `${chosen.source} minus ${chosen.baseline}`, "source", "delta"));
  }
  return sorted(rows);
}

function accuracies(chosen, x, keep) {
  const rows = [];
  for (const row of accuracyRows) {
    const role = row.source === chosen.source ? "source" : row.source === chosen.baseline ? "baseline" : null;
    if (role && matches(row, chosen) && keep(row)) rows.push(point(row, row[x], row.mean, null, row.source, role, "accuracy"));
  }
  return sorted(rows);
}

const sorted = rows => alone(rows.sort((a, b) => a.dataset.localeCompare(b.dataset) || a.role.localeCompare(b.role) || a.x - b.x));

// A point whose neighbours on its curve have no interval: a band between bounds would be invisible there.
function alone(rows) {
  const curves = {}, known = row => row !== undefined && row.low !== null;
  for (const row of rows) (curves[`${row.dataset} ${row.arm} ${row.variant}`] ??= []).push(row);
  for (const curve of Object.values(curves)) {
    curve.forEach((row, at) => { row.alone = known(row) && !known(curve[at - 1]) && !known(curve[at + 1]); });
  }
  return rows;
}

function points(chosen) {
  const ofSize = row => String(row.images) === chosen.images;
  return {
    "delta-images": deltas(chosen, "images_used", row => atEpoch(row, chosen)),
    "accuracy-images": accuracies(chosen, "images_used", row => atEpoch(row, chosen)),
    "delta-epoch": deltas(chosen, "epoch", ofSize),
    "accuracy-epoch": accuracies(chosen, "epoch", ofSize),
  };
}

// "ready" means that the charts show the current choices: a chart is drawn a moment after its data are set.
async function update() {
  const chosen = choices(), found = points(chosen), mine = ++updates;
  document.body.dataset.ready = "no";
  say(chosen, found["delta-images"]);
  await Promise.all(Object.entries(found).map(([name, rows]) => show(name, rows)));
  if (mine === updates) document.body.dataset.ready = "yes";
}

function show(name, rows) {
  fill(document.querySelector(`[data-table="${name}"]`), rows, name.startsWith("delta"));
  return views[name]?.data("points", rows).runAsync();
}

function say(chosen, rows) {
  const clear = rows.filter(row => row.low > 0).length, below = rows.filter(row => row.high < 0).length;
  const when = chosen.epoch === LAST ? "after the last epoch" : `after epoch ${chosen.epoch}`;
  const words = chosen.source === chosen.baseline ? "Choose two different sources to see a delta."
    : rows.length === 0 ? `No pairs of ${chosen.source} and ${chosen.baseline} for these choices.`
    : `${chosen.source} minus ${chosen.baseline} ${when}: ${rows.length} point${rows.length === 1 ? "" : "s"}; the 95 % interval is above zero in ${clear} and below zero in ${below}.`;
  document.getElementById("said").textContent = words;
}

function fill(element, rows, isDelta) {
  const told = isDelta ? signed : value => value.toFixed(2);
  const bound = value => value === null ? "" : told(value);
  const band = rows.some(row => row.low_band !== null);
  const columns = [["dataset", row => row.dataset], ["arm", row => row.arm], ["images", row => row.size], ["epoch", row => row.epoch],
    ["n", row => row.n], ["mean", row => told(row.mean)], ["low", row => bound(row.low)], ["high", row => bound(row.high)],
    ...(band ? [["simultaneous low", row => bound(row.low_band)], ["simultaneous high", row => bound(row.high_band)]] : []),
    ...(isDelta ? [["unpaired", row => row.unpaired]] : []), ["trials", row => row.variant]];
  build(element, columns.map(([name]) => name), rows.map(row => columns.map(([, get]) => String(get(row)))));
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
    const { columns, rows } = figures[details.dataset.figure];
    build(found, columns, rows);
  });
}

function asText(found, between, quote) {
  const lines = [...found.querySelectorAll("tr")].map(row => [...row.cells].map(cell => quote(cell.textContent)).join(between));
  return lines.join("\n") + "\n";
}

const plain = value => NUMERIC.test(value) ? value.replace("−", "-").replaceAll(",", "") : value;
const quoted = value => /[",\n]/.test(plain(value)) ? `"${plain(value).replaceAll('"', '""')}"` : plain(value);

async function copy(found, status) {
  const text = asText(found, "\t", plain);
  try {
    await navigator.clipboard.writeText(text);
    status.textContent = "Copied.";
  } catch {
    status.textContent = "The browser did not allow copying; download the CSV instead.";
  }
}

function download(found, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asText(found, ",", quoted)], { type: "text/csv" }));
  link.download = `${name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const tools of document.querySelectorAll(".tools")) {
  const found = document.getElementById(tools.dataset.of), status = tools.querySelector("output");
  tools.querySelector(".copy").addEventListener("click", () => copy(found, status));
  tools.querySelector(".download").addEventListener("click", () => download(found, tools.dataset.name));
}

async function start() {
  const numbers = await unpack("numbers");
  deltaRows = table(numbers.deltas); accuracyRows = table(numbers.accuracy); figures = numbers.figures;
  const found = points(choices());
  for (const [name, spec] of Object.entries(numbers.charts)) {
    const element = document.getElementById(`plot-${name}`);
    const filled = { ...spec, datasets: { ...spec.datasets, points: found[name] } };
    // errors only: Vega warns of infinite extents where a choice leaves no point, which the page reports itself
    const made = await vegaEmbed(element, filled, { actions: false, renderer: "svg", logLevel: 1 });
    views[name] = made.view;
  }
  for (const image of document.querySelectorAll("img[data-figure]")) {
    const drawn = new Blob([figures[image.dataset.figure].svg], { type: "image/svg+xml" });
    image.src = URL.createObjectURL(drawn);
  }
  for (const select of document.querySelectorAll("#choices select")) select.addEventListener("change", update);
  addEventListener("beforeprint", () => dispatchEvent(new Event("resize")));
  await update();
}

// an empty root has no choices and no numbers
if (document.getElementById("choices")) start(); else document.body.dataset.ready = "yes";
