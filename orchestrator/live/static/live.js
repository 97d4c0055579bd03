"use strict";
// Updates of the live page: parts arrive as HTML from this server, as events, and replace those that are shown.

const root = document.documentElement;
root.classList.add("scripted");

// the token in the address has done its work: the browser keeps it as a cookie
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const today = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const seconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
let lastRead = null;

function localize(within) {
  for (const time of within.querySelectorAll("time[datetime]:not(#at)")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      time.textContent = (at.toDateString() === new Date().toDateString() ? today : clock).format(at);
      time.title = clock.format(at);
    }
  }
}

function showRead() {
  const at = document.getElementById("at");
  if (at === null || lastRead === null) return;
  const ago = Math.round((Date.now() - lastRead) / 1000);
  at.textContent = seconds.format(lastRead);
  at.title = `${ago} s ago`;
  at.parentElement.classList.toggle("late", troubles.server !== "");
}

// what a reader has opened, scrolled or focused stays as it is when a part is replaced
function replace(part, html) {
  const keyed = new Map();
  for (const one of part.querySelectorAll("[data-key]")) {
    keyed.set(one.dataset.key, { open: one.open, left: one.scrollLeft, top: one.scrollTop,
      end: one.scrollHeight - one.scrollTop - one.clientHeight < 8 });
  }
  const active = part.contains(document.activeElement) ? place(part, document.activeElement) : null;
  part.innerHTML = html;
  for (const one of part.querySelectorAll("[data-key]")) {
    const was = keyed.get(one.dataset.key);
    if (was === undefined) continue;
    if ("open" in one && was.open !== undefined) one.open = was.open;
    one.scrollLeft = was.left;
    one.scrollTop = one.classList.contains("log") && was.end ? one.scrollHeight : was.top;
  }
  prepare(part);
  if (active !== null) find(part, active)?.focus({ preventScroll: true });
}

function place(part, element) {
  if (element.id) return { id: element.id };
  const alike = [...part.querySelectorAll(element.tagName)];
  return { tag: element.tagName, href: element.getAttribute("href"), name: element.getAttribute("name"),
    key: element.dataset.key, number: alike.indexOf(element) };
}

function find(part, was) {
  if (was.id) return document.getElementById(was.id);
  const alike = [...part.querySelectorAll(was.tag)];
  const same = alike.filter((one) => one.getAttribute("href") === was.href && one.getAttribute("name") === was.name
    && one.dataset.key === was.key);
  return same.includes(alike[was.number]) ? alike[was.number] : same[0];
}

// in the heat map the arrow keys lead from cell to cell, and one cell is reached by Tab
let roving = 0;
function cells() {
  return [...document.querySelectorAll(".map td a")];
}

function prepareMap() {
  const all = cells();
  if (all.length === 0) return;
  roving = Math.min(roving, all.length - 1);
  all.forEach((one, i) => { one.tabIndex = i === roving ? 0 : -1; });
}

function words(link) {
  const cell = link.parentElement;
  const row = cell.parentElement;
  const table = row.closest("table");
  let group = row;
  while (group && !group.querySelector("th[scope=rowgroup]")) group = group.previousElementSibling;
  const source = group?.querySelector("th[scope=rowgroup]").textContent ?? "";
  const blocks = row.querySelector("th[scope=row]").textContent;
  const column = [...row.querySelectorAll("td")].indexOf(cell);
  const size = table.tHead.rows[1].cells[column]?.textContent ?? "";
  let left = column;
  let dataset = "";
  for (const one of table.tHead.rows[0].querySelectorAll("th")) {
    if (left < one.colSpan) { dataset = one.textContent; break; }
    left -= one.colSpan;
  }
  const [done, planned] = link.querySelector("span").textContent.split("/");
  const more = [...link.querySelectorAll("b")].map((one) => `,${one.textContent}`).join("");
  return `${source}, ${blocks}, ${dataset}, ${size} images: ${done} of ${planned} done${more}`;
}

function point(event) {
  const link = event.target.closest?.(".map td a");
  const line = document.getElementById("pointed");
  if (link && line) line.textContent = words(link);
}
document.addEventListener("mouseover", point);
document.addEventListener("focusin", (event) => {
  point(event);
  const at = cells().indexOf(event.target);
  if (at >= 0) { roving = at; prepareMap(); }
});

document.addEventListener("keydown", (event) => {
  const link = event.target.closest?.(".map td a");
  if (!link || event.ctrlKey || event.altKey || event.metaKey) return;
  const cell = link.parentElement;
  const rows = [...cell.closest("tbody").rows].map((row) => [...row.querySelectorAll("td")]);
  let y = rows.findIndex((row) => row.includes(cell));
  let x = rows[y].indexOf(cell);
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Home") x = 0;
  else if (event.key === "End") x = rows[y].length - 1;
  else if (!step) return;
  else {
    do { x += step[0]; y += step[1]; } while (rows[y]?.[x] && !rows[y][x].querySelector("a"));
  }
  const next = rows[y]?.[x]?.querySelector("a");
  if (next) { next.focus(); event.preventDefault(); }
});

document.addEventListener("change", (event) => {
  if (event.target.matches(".choices select")) event.target.form.requestSubmit();
});

function prepare(within) {
  localize(within);
  if (within.querySelector(".map")) prepareMap();
}

// why the page may be old: what the server says of the results root, or that the server does not answer
const troubles = { root: document.getElementById("trouble")?.textContent ?? "", server: "" };
function showTroubles() {
  const line = document.getElementById("trouble");
  const said = [troubles.server, troubles.root].filter(Boolean).join(" ");
  if (line === null || line.textContent === said) return;
  line.textContent = said;
  line.hidden = !said;
}

let shown = [...document.querySelectorAll(".part")].map((one) => `${one.id.slice(5)}:${one.dataset.digest}`).join(",");
let events = null;
function listen() {
  const heard = new EventSource(`${document.body.dataset.events}&seen=${encodeURIComponent(shown)}`);
  events = heard;
  const connection = (words) => {
    troubles.server = words;
    showTroubles();
    showRead();
  };
  heard.addEventListener("open", () => connection(""));
  heard.addEventListener("error", () => connection(heard.readyState === EventSource.CLOSED
    ? "This page has ended; open the address that its server printed."
    : "The server of this page does not answer; trying again."));
  heard.addEventListener("message", (event) => {
    const news = JSON.parse(event.data);
    if (news.at) lastRead = new Date(news.at);
    for (const [name, html] of Object.entries(news.parts)) {
      const part = document.getElementById(`part-${name}`);
      if (part) replace(part, html);
    }
    shown = event.lastEventId;
    troubles.root = news.trouble ? `The results root could not be read: ${news.trouble}` : "";
    connection("");
    root.dataset.updates = String(Number(root.dataset.updates ?? 0) + 1);
  });
}

function hush() {
  events?.close();
  events = null;
}

// browsers allow six connections to one server: a page that is left or that nobody sees must not hold one
function listenIfSeen() {
  if (document.visibilityState === "hidden") hush();
  else if (events === null) listen();
}

const at = document.getElementById("at");
if (at !== null) lastRead = new Date(at.dateTime);
prepare(document);
showRead();
setInterval(showRead, 1000);
if (document.body.dataset.events) {
  addEventListener("pagehide", hush);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  document.addEventListener("visibilitychange", listenIfSeen);
  listenIfSeen();
}
