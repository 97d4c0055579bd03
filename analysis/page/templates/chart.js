"use strict";
// Draws one chart as SVG: panels of curves with bands, under a common legend. Legible on white as it is; the page's
// style sheet replaces the colours in the dark.
let style = null;  // colours, shapes, font, and how many values are few, from Python
const BANDED = 2;  // up to this many curves of a panel have simultaneous bands, too; bands of more have edges
const pen = document.createElement("canvas").getContext("2d");

function made(name, attributes, ...inside) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, typeof value === "number" ? Number(value.toFixed(2)) : value);
  one.append(...inside);
  return one;
}

function wide(words, size = 12) {
  pen.font = `${size}px ${style.font}`;
  return pen.measureText(words).width;
}

function shortened(words, room) {
  if (wide(words) <= room) return words;
  let kept = words.length;
  while (kept > 3 && wide(`${words.slice(0, kept)}…`) > room) kept -= 1;
  return `${words.slice(0, kept)}…`;
}

const text = (x, y, words, more = {}) => {
  const soft = more.soft ?? true, { soft: _, ...others } = more;
  return made("text", { x, y, class: soft ? "soft" : "ink", fill: soft ? style.soft : style.ink, ...others }, words);
};

function ticksOf(low, high, most) {
  const least = (high - low) / most, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(one => one >= least * (1 - 1e-9));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at += 1) {
    found.push([at * step, (at * step).toFixed(decimals).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "")]);
  }
  return found;
}

// The ends of what is drawn of a point's interval: of few, only the interval itself.
const ends = (curve, point) => point.low === null ? [] : [point.low, point.high,
  ...(curve.banded && point.n >= style.few ? [point.lowBand ?? point.low, point.highBand ?? point.high] : [])];

// Covers all means, and the intervals of at least five; wide intervals of fewer are clipped.
function range(curves, zero) {
  const values = curves.flatMap(curve => curve.points.flatMap(point => [point.mean, ...(point.n >= style.few ? ends(curve, point) : [])]));
  if (zero) values.push(0);
  let low = Math.min(...values), high = Math.max(...values);
  const span = Math.max(high - low, 2), margin = 0.06 * span + (span - (high - low)) / 2;
  return [low - margin, high + margin];
}

// How many intervals the frame cuts, in words.
function cuts(curves, low, high) {
  const known = curves.flatMap(curve => curve.points.map(point => ends(curve, point))).filter(all => all.length);
  const cut = known.filter(all => Math.min(...all) < low || Math.max(...all) > high).length;
  return cut ? [`${cut} of ${known.length} intervals are cut at the frame`] : [];
}

// Labels that fit beside one another; the last one always stays.
function fitting(ticks, place) {
  const kept = [];
  for (const [value, words] of [...ticks].reverse()) {
    const at = place(value), half = wide(words) / 2 + 4;
    if (kept.every(one => Math.abs(one.at - at) >= one.half + half)) kept.push({ at, half, words });
  }
  return kept;
}

const path = points => points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function runs(points, known) {
  const found = [[]];
  for (const point of points) known(point) ? found.at(-1).push(point) : found.push([]);
  return found.filter(run => run.length);
}

function bands(curve, x, y, dim) {
  const colour = style.colours[curve.look[0]], parts = [];
  for (const [low, high, opacity] of [["lowBand", "highBand", 0.1], ["low", "high", dim ? 0.12 : 0.2]]) {
    if (low === "lowBand" && !curve.banded) continue;
    for (const run of runs(curve.points, point => point.n >= style.few && point[low] !== null)) {
      if (run.length > 1) {
        const edge = [...run.map(point => [x(point.x), y(point[high])]), ...run.toReversed().map(point => [x(point.x), y(point[low])])];
        parts.push(made("path", { class: `band fill s${curve.look[0]}`, d: `${path(edge)}z`, fill: colour, "fill-opacity": opacity }));
        if (dim) for (const end of [low, high]) {
          parts.push(made("path", { class: `edge stroke s${curve.look[0]}`, d: path(run.map(point => [x(point.x), y(point[end])])), fill: "none",
            stroke: colour, "stroke-width": 0.8, "stroke-opacity": 0.45 }));
        }
      } else {
        const [one] = run;
        parts.push(made("path", { class: `bar stroke s${curve.look[0]}`, d: path([[x(one.x), y(one[low])], [x(one.x), y(one[high])]]),
          stroke: colour, "stroke-width": low === "low" ? 3 : 1.2, "stroke-opacity": 0.6 }));
      }
    }
  }
  return parts;
}

// Intervals of two to four are dotted bars, side by side.
function fewBars(curve, x, y, shift) {
  return curve.points.filter(point => point.n < style.few && point.low !== null).map(point =>
    made("path", { class: `bar stroke s${curve.look[0]}`, d: path([[x(point.x) + shift, y(point.low)], [x(point.x) + shift, y(point.high)]]),
      stroke: style.colours[curve.look[0]], "stroke-width": 1.2, "stroke-dasharray": "2 2" }));
}

function line(look, dashed, points) {
  return made("path", { class: `line stroke s${look[0]}`, d: path(points), fill: "none", stroke: style.colours[look[0]],
    "stroke-width": 2, "stroke-linejoin": "round", ...(dashed ? { "stroke-dasharray": "5 4" } : {}) });
}

function mark(look, hollow, x, y, words, size = 1) {
  const colour = style.colours[look[0]];
  return made("path", { class: `${hollow ? "hollow" : "mark"} s${look[0]}`, d: style.shapes[look[1]],
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})${size === 1 ? "" : ` scale(${size})`}`,
    fill: hollow ? style.panel : colour, stroke: hollow ? colour : style.panel, "stroke-width": hollow ? 1.4 : 0.8 },
    ...(words ? [made("title", {}, words)] : []));
}

function legend(entries, width, top) {
  const parts = [];
  let x = 0, y = top;
  for (const one of entries) {
    const room = Math.min(34 + wide(one.words) + 18, width);
    if (x > 0 && x + room > width) { x = 0; y += 18; }
    parts.push(line(one.look, one.dashed, [[x + 1, y + 7], [x + 27, y + 7]]), mark(one.look, one.hollow, x + 14, y + 7),
      text(x + 34, y + 11, shortened(one.words, width - 34), { soft: false, class: "ink entry" }));
    x += room;
  }
  return [parts, entries.length ? y + 22 : top];
}

// spec: label, context, y {title, zero}, x {title, log, ticks}, legend, panels [{title, curves}], empty
function drawn(spec, width) {
  const parts = [], all = spec.panels.flatMap(panel => panel.curves), few = Math.floor((width + 10) / 300) || 1;
  const rows = Math.ceil(spec.panels.length / Math.min(few, 4)), columns = Math.ceil(spec.panels.length / rows) || 1;
  for (const panel of spec.panels) for (const curve of panel.curves) curve.banded = panel.curves.length <= BANDED;
  const [low, high] = all.length ? range(all, spec.y.zero) : [0, 1];
  let top = 0;
  for (const words of lines([spec.context, ...cuts(all, low, high)].join(" · "), width)) { parts.push(text(0, top + 12, words)); top += 17; }
  const [entries, under] = legend(spec.legend, width, top + 4);
  parts.push(...entries);
  top = under + 4;
  if (!all.length) return sheet([...parts, text(0, top + 14, spec.empty)], width, top + 30, spec.label);
  parts.push(text(0, top + 12, spec.y.title)); top += 20;
  const left = 38, gap = 14, each = (width - gap * (columns - 1)) / columns, height = columns > 1 ? 170 : 220;
  const yTicks = ticksOf(low, high, columns > 1 ? 7 : 6);
  const xs = spec.x.ticks.map(([value]) => spec.x.log ? Math.log2(value) : value);
  const first = Math.min(...xs), span = Math.max(...xs) - first || 1;
  spec.panels.forEach((panel, number) => {
    const from = (number % columns) * (each + gap) + left, to = from - left + each - 10;
    const title = panel.title ? 18 : 0, above = top + title, below = above + height;
    const x = value => from + 10 + ((spec.x.log ? Math.log2(value) : value) - first) / span * (to - from - 20) + (xs.length > 1 ? 0 : (to - from - 20) / 2);
    const y = value => Math.min(Math.max(below - (value - low) / (high - low) * height, above - height), below + height);
    if (panel.title) parts.push(text(from, top + 11, shortened(panel.title, to - from), { soft: false, "font-weight": 600 }));
    for (const [value, words] of yTicks) {
      const zero = spec.y.zero && Math.abs(value) < 1e-9;
      parts.push(made("path", { class: zero ? "zero" : "grid", d: path([[from, y(value)], [to, y(value)]]), stroke: zero ? style.ink : style.grid }),
        text(from - 6, y(value) + 4, words, { "text-anchor": "end" }));
    }
    for (const { at, words } of fitting(spec.x.ticks, x)) parts.push(text(at, below + 16, words, { "text-anchor": "middle" }));
    const name = `clip-${spec.name}-${number}`, inside = [], dim = panel.curves.length > BANDED;
    for (const curve of panel.curves) inside.push(...bands(curve, x, y, dim));
    panel.curves.forEach((curve, at) => inside.push(...fewBars(curve, x, y, 4 * (at - (panel.curves.length - 1) / 2))));
    for (const curve of panel.curves) inside.push(line(curve.look, curve.dashed, curve.points.map(point => [x(point.x), y(point.mean)])));
    parts.push(made("clipPath", { id: name }, made("rect", { x: from - 4, y: above - 4, width: to - from + 8, height: height + 8 })),
      made("g", { "clip-path": `url(#${name})` }, ...inside));
    for (const curve of panel.curves) for (const point of curve.points) {
      parts.push(mark(curve.look, curve.hollow, x(point.x), y(point.mean), point.words, point.n < style.few ? 0.75 : 1));
    }
    if (number % columns === columns - 1 || number === spec.panels.length - 1) top = below + 30;
  });
  parts.push(text(width / 2 + left / 2, top + 2, spec.x.title, { "text-anchor": "middle" }));
  return sheet(parts, width, top + 10, spec.label);
}

function lines(words, width) {
  const found = [""];
  for (const word of words.split(" ")) {
    const longer = found.at(-1) ? `${found.at(-1)} ${word}` : word;
    if (wide(longer) <= width || !found.at(-1)) found[found.length - 1] = longer; else found.push(word);
  }
  return found;
}

function sheet(parts, width, height, label) {
  return made("svg", { class: "drawn", viewBox: `0 0 ${width.toFixed(0)} ${height.toFixed(0)}`, width: Math.round(width), height: Math.round(height),
    role: "img", "aria-label": label, "font-family": style.font, "font-size": 12 }, ...parts);
}
