// The curves: choices, which the address keeps, and the numbers that Python computed for them. No statistics here.
const LAST = "last";
const KINDS = ["source", "dataset", "blocks", "variant"];
const form = document.getElementById("choices");
let deltaRows = [], accuracyRows = [], looks = {};

const fieldset = kind => form?.querySelector(`fieldset[data-kind="${kind}"]`);
const inputs = kind => [...(fieldset(kind)?.querySelectorAll("input") ?? [])];
const selects = () => [...form.querySelectorAll("select")];
const kinds = () => KINDS.filter(kind => fieldset(kind));
const several = (view, kind) => view.colour === kind || view.panel === kind;
const depth = row => row.blocks === -1 ? 1e9 : row.blocks;  // all blocks last
const size = row => row.images === -1 ? `all (${row.images_used.toLocaleString("en")})` : row.images.toLocaleString("en");
const signed = value => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const named = (kind, value) => inputs(kind).find(one => one.value === String(value))?.dataset.words ?? String(value);
const minus = (source, baseline) => `${source} minus ${baseline}`;

// A view is what the address keeps: the value of each select, and the checked values of each kind.
function current() {
  const view = Object.fromEntries(selects().map(one => [one.name, one.value]));
  for (const kind of kinds()) view[kind] = inputs(kind).filter(one => one.checked).map(one => one.value);
  return view;
}

// Kinds that are neither colour nor panel have one value. Values that do not exist here fall back to the default.
function show(view) {
  for (const select of selects()) {
    const wanted = [...select.options].some(one => one.value === view[select.name]) ? view[select.name] : start[select.name];
    select.value = wanted;
  }
  const now = current();
  for (const kind of kinds()) {
    const known = inputs(kind).map(one => one.value), asked = (view[kind] ?? []).filter(one => known.includes(one));
    const kept = asked.length || (view[kind] && !view[kind].length && several(now, kind)) ? asked : start[kind];
    const wanted = several(now, kind) ? kept : kept.slice(0, 1);
    for (const one of inputs(kind)) one.type = several(now, kind) ? "checkbox" : "radio";
    for (const one of inputs(kind)) one.checked = wanted.includes(one.value);
    fieldset(kind).querySelector(".role").textContent = now.colour === kind ? "colour" : now.panel === kind ? "panel" : "one";
  }
}

// A kind that becomes colour or panel has the values again that it had as such before.
const before = {};

function widened(view) {
  for (const kind of kinds()) {
    if (inputs(kind)[0].type === "checkbox") before[kind] = view[kind];
    else if (several(view, kind)) view[kind] = before[kind] ?? start[kind];
  }
  return view;
}

// `#SECTION&colour=dataset&source=l2&source=linf`: what differs from the default, after the section.
function address(section) {
  const view = current(), found = new URLSearchParams();
  for (const select of selects()) if (view[select.name] !== start[select.name]) found.append(select.name, view[select.name]);
  for (const kind of kinds()) {
    const normal = several(view, kind) ? start[kind] : start[kind].slice(0, 1);
    if (view[kind].join("\n") === normal.join("\n")) continue;
    for (const value of view[kind].length ? view[kind] : [""]) found.append(kind, value);
  }
  return `#${[section, found.toString()].filter(Boolean).join("&")}`;
}

function parsed() {
  const [head, ...rest] = location.hash.slice(1).split("&"), found = new URLSearchParams((head.includes("=") ? [head, ...rest] : rest).join("&"));
  const view = Object.fromEntries(selects().map(one => [one.name, found.get(one.name)]));
  for (const kind of kinds()) view[kind] = found.has(kind) ? found.getAll(kind).filter(value => value !== "") : undefined;
  return { section: head.includes("=") ? "" : head, view };
}

let start = {}, section = "";

function goTo(name, focus) {
  const target = document.getElementById(name);
  if (!target || name === section) return;
  section = name;
  target.scrollIntoView();
  if (focus) { target.tabIndex = -1; target.focus({ preventScroll: true }); }
}

const matches = (row, view) => kinds().every(kind => kind === "source" || view[kind].includes(String(row[kind])));
const atEpoch = (row, view) => view.epoch === LAST ? row.epoch === row.epochs : row.epoch === Number(view.epoch);
const ofSize = (row, view) => String(row.images) === view.images;

function point(row, x, mean, band, told) {
  const known = row.half !== null, low = known ? mean - row.half : null, high = known ? mean + row.half : null;
  const interval = known ? `${told(low)} to ${told(high)}` : "no interval";
  return { x: row[x], mean, low, high, n: row.n, row, lowBand: known && band !== null ? mean - band : null,
    highBand: known && band !== null ? mean + band : null, told: `${told(mean)} (${interval}), n = ${row.n}` };
}

// Deltas are stored once for each pair of sources; the opposite direction has the opposite sign.
function deltas(view, x, keep) {
  const found = [];
  for (const row of deltaRows) {
    const turned = row.source === view.baseline, source = turned ? row.baseline : row.source;
    if ((!turned && row.baseline !== view.baseline) || !view.source.includes(source) || !matches(row, view) || !keep(row, view)) continue;
    const band = x !== "images_used" ? null : view.epoch === LAST ? row.band_last : row.band;
    found.push({ ...point(row, x, turned ? -row.mean : row.mean, band, signed), source, arm: minus(source, view.baseline) });
  }
  return found;
}

function accuracies(view, x, keep) {
  const told = value => value.toFixed(2), others = view.source.some(one => one !== view.baseline);
  return accuracyRows.filter(row => (row.source === view.baseline || view.source.includes(row.source)) && matches(row, view) && keep(row, view))
    .map(row => ({ ...point(row, x, row.mean, null, told), source: row.source, arm: row.source, isBaseline: others && row.source === view.baseline }));
}

const CHARTS = {
  "delta-images": view => [deltas(view, "images_used", atEpoch), true, true],
  "delta-epoch": view => [deltas(view, "epoch", ofSize), true, false],
  "accuracy-images": view => [accuracies(view, "images_used", atEpoch), false, true],
  "accuracy-epoch": view => [accuracies(view, "epoch", ofSize), false, false],
};

const valueOf = (one, kind) => kind === "source" ? one.source : String(one.row[kind]);
const order = (kind, value) => inputs(kind).findIndex(one => one.value === value);

// One panel for each value of the panel's kind; a panel of a source shows its baseline, too.
function panels(points, view, isDelta) {
  const { panel, colour } = view, names = panel === "none" ? [""] : view[panel].filter(name => !(panel === "source" && name === view.baseline));
  return names.map(name => {
    const inside = points.filter(one => !name || valueOf(one, panel) === name || (panel === "source" && one.isBaseline));
    const curves = {};
    for (const one of inside) {
      const value = valueOf(one, colour);
      const curve = curves[`${one.isBaseline ? 0 : 1} ${value}`] ??= { value, points: [], look: looks[colour][value],
        dashed: Boolean(one.isBaseline), hollow: Boolean(one.isBaseline) };
      curve.points.push(one);
      one.words = [one.arm, one.row.dataset, named("blocks", one.row.blocks), `${size(one.row)} images`, `epoch ${one.row.epoch}`, one.told].join(", ");
    }
    for (const curve of Object.values(curves)) curve.points.sort((a, b) => a.x - b.x);
    const title = !name ? "" : panel === "source" ? (isDelta ? minus(name, view.baseline) : name) : named(panel, name);
    return { title, curves: Object.values(curves).sort((a, b) => a.dashed - b.dashed || order(colour, a.value) - order(colour, b.value)) };
  }).filter(one => one.curves.length);
}

const short = count => count < 1000 ? String(count) : `${+(count / 1000).toFixed(1)}k`;

function ticks(points, byImages) {
  const found = new Map();
  for (const { x, row } of points) found.set(x, byImages ? (row.images === -1 ? found.get(x) ?? "all" : short(x)) : String(x));
  return [...found].sort(([a], [b]) => a - b);
}

// Sources of a cell without a common length are never paired: their lengths in words. A source has one length in a cell.
function apart(points) {
  const cells = new Map(), found = new Map();
  const into = (map, key) => map.has(key) ? map.get(key) : map.set(key, new Map()).get(key);
  for (const { row } of points) into(cells, JSON.stringify([row.dataset, row.blocks, row.images, row.variant])).set(row.source, row.epochs);
  for (const lengths of cells.values()) {
    if (new Set(lengths.values()).size > 1) for (const [source, epochs] of lengths) into(found, source).set(epochs, epochs);
  }
  const words = [...found].map(([source, of]) => {
    const all = [...of.keys()].sort((a, b) => a - b);
    return `${source}: ${all.join(" or ")} epoch${all.at(-1) === 1 ? "" : "s"}`;
  });
  return words.length ? [`sources without a common length, never paired (${words.join("; ")})`] : [];
}

function context(view, isDelta, byImages, shown) {
  const fixed = kinds().filter(kind => !several(view, kind)).flatMap(kind => kind !== "source" ? view[kind].map(value => named(kind, value))
    : [isDelta ? minus(view.source[0], view.baseline) : view.source[0]]);
  const arms = isDelta || several(view, "source") && view.panel !== "source" ? [] : [`dashed: ${view.baseline}`];
  const when = byImages ? (view.epoch === LAST ? "last epoch" : `epoch ${view.epoch}`)
    : `${form.elements.images.selectedOptions[0].textContent} images`;
  return [...fixed, when, ...arms, ...apart(shown)].join(" · ");
}

function legendOf(drawnPanels, view, isDelta) {
  const found = new Map();
  for (const panel of drawnPanels) for (const curve of panel.curves) {
    const baseline = view.colour === "source" && curve.dashed ? " (baseline)" : curve.dashed ? `, ${view.baseline}` : "";
    const words = view.colour === "source" ? (isDelta ? minus(curve.value, view.baseline) : curve.value) : named(view.colour, curve.value);
    found.set(`${words}${baseline}`, { ...curve, words: `${words}${baseline}` });
  }
  return [...found.values()];
}

function specOf(name, view) {
  const [points, isDelta, byImages] = CHARTS[name](view), found = panels(points, view, isDelta);
  const shown = isDelta ? accuracies(view, "epoch", byImages ? atEpoch : ofSize) : points;
  const baselineOnly = view.source.every(one => one === view.baseline);
  const empty = view.source.length === 0 || kinds().some(kind => view[kind].length === 0) ? "Choose at least one of each."
    : isDelta && baselineOnly ? "Choose a source that is not the baseline to see a delta." : "No results for these choices.";
  const title = document.querySelector(`figure[data-name="${name}"] h3`).textContent;
  return { name, points, panels: found, empty, legend: legendOf(found, view, isDelta), context: context(view, isDelta, byImages, shown),
    label: `${title}: ${points.length} points; the table below the chart has the numbers.`,
    y: { title: isDelta ? "delta, percentage points" : "test accuracy, %", zero: isDelta },
    x: { title: byImages ? "training images (log 2)" : "epoch", log: byImages, ticks: ticks(points, byImages) } };
}

const shownPoints = {};

function draw(width = 0) {
  const view = current(), grid = document.querySelector(".charts");
  let isSingle = true;
  const specs = Object.keys(CHARTS).filter(name => document.getElementById(`plot-${name}`)).map(name => specOf(name, view));
  for (const spec of specs) isSingle &&= spec.panels.length <= 1;
  grid.classList.toggle("single", isSingle);
  for (const spec of specs) {
    const plot = document.getElementById(`plot-${spec.name}`);
    plot.replaceChildren(drawn(spec, width || Math.max(plot.clientWidth, 240)));
    shownPoints[spec.name] = spec.points;
    fill(spec.name);
  }
  say(specs.find(spec => spec.name === "delta-images")?.points ?? [], view);
  document.body.dataset.ready = "yes";
}

function say(points, view) {
  const clear = points.filter(one => one.low > 0).length, below = points.filter(one => one.high < 0).length;
  const when = view.epoch === LAST ? "after the last epoch" : `after epoch ${view.epoch}`, alone = points.filter(one => one.low === null).length;
  const equal = points.filter(one => one.low !== null && one.low === one.high).length;  // as words.without_width
  document.getElementById("said").textContent = points.length === 0 ? "" : `${points.length} delta${points.length === 1 ? "" : "s"} ${when}: `
    + `the 95 % interval is above zero in ${clear}, below zero in ${below}, and contains it in ${points.length - clear - below - alone}.`
    + (equal ? ` In ${equal} all differences are equal: an interval without width, not precision.` : "")
    + (alone ? ` ${alone} of a single pair ha${alone === 1 ? "s" : "ve"} none.` : "");
}

// The table of a chart is made when it is opened.
function fill(name) {
  const details = document.querySelector(`details[data-chart="${name}"]`);
  if (!details.open) return;
  const points = shownPoints[name], isDelta = name.startsWith("delta"), told = isDelta ? signed : value => value.toFixed(2);
  const bound = value => value === null ? "" : told(value), banded = points.some(one => one.lowBand !== null);
  const columns = [["dataset", one => one.row.dataset], [isDelta ? "delta of" : "source", one => one.arm], ["blocks", one => one.row.blocks === -1 ? "all" : one.row.blocks],
    ["images", one => size(one.row)], ["epoch", one => one.row.epoch], ["n", one => one.n], ["mean", one => told(one.mean)],
    ["low", one => bound(one.low)], ["high", one => bound(one.high)],
    ...(banded ? [["simultaneous low", one => bound(one.lowBand)], ["simultaneous high", one => bound(one.highBand)]] : []),
    ...(isDelta ? [["unpaired", one => one.row.unpaired]] : []), ["trials", one => one.row.variant]];
  const sorted = points.toSorted((a, b) => a.row.dataset.localeCompare(b.row.dataset) || a.arm.localeCompare(b.arm)
    || depth(a.row) - depth(b.row) || a.row.images_used - b.row.images_used || a.row.epoch - b.row.epoch);
  build(details.querySelector("table"), columns.map(([head]) => head), sorted.map(one => columns.map(([, get]) => String(get(one)))));
}

function startCurves(numbers) {
  deltaRows = table(numbers.deltas); accuracyRows = table(numbers.accuracy); looks = numbers.looks;
  start = current();
  const first = parsed();
  show(first.view);
  draw();
  goTo(first.section, false);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("change", () => {
    show(widened(current()));
    draw();
    section = "curves";
    history.pushState(null, "", address(section));
  });
  addEventListener("popstate", () => {
    const { section: wanted, view } = parsed();
    show(view);
    draw();
    goTo(wanted, false);
  });
  // a link to a section keeps the view in the address
  for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", event => {
    event.preventDefault();
    const wanted = link.getAttribute("href").slice(1);
    history.pushState(null, "", address(wanted));
    section = "";
    goTo(wanted, true);
  });
  for (const details of document.querySelectorAll("details[data-chart]")) details.addEventListener("toggle", () => fill(details.dataset.chart));
  let width = document.querySelector(".charts").clientWidth;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 1) return;
    width = entry.contentRect.width;
    draw();
  }).observe(document.querySelector(".charts"));
  addEventListener("beforeprint", () => draw(680));
  addEventListener("afterprint", () => draw());
}
