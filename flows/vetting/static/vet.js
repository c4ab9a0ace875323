"use strict";
// Scanning page: verdicts by key, the next candidate fetched ahead, stretches on canvases.

const csrf = document.querySelector('meta[name="csrf"]').content;
const told = document.getElementById("told");
const holder = document.getElementById("candidate");
const STRETCHES = ["asinh", "zscale", "linear"];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const DARK = [8, 11, 20], LIGHT = [255, 255, 250], NONE = [52, 78, 112];
const BLINK_MS = 500;

function tell(text, bad) {
  told.replaceChildren();
  if (!text) return null;
  const line = document.createElement("p");
  line.className = bad ? "note" : "quiet";
  line.textContent = text;
  told.append(line);
  return line;
}

const REFUSED = {
  401: "This page needs its token again: open the address that nightstride vet printed.",
  404: "It is not there any more, as after a rerun of the night: go back to the list.",
};

function refusal(answer, said) { return new Error(said || REFUSED[answer.status] || `The server answered ${answer.status}.`); }

async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin" });
  const found = answer.headers.get("content-type").startsWith("application/json") ? await answer.json() : {};
  if (!answer.ok) throw refusal(answer, found.error);
  return found;
}

async function get(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) throw refusal(answer);
  return answer;
}

document.getElementById("who").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/user", { user: event.target.elements.user.value });
    location.reload();
  } catch (error) { tell(error.message, true); }
});

// ---- Pictures ----

const view = { shot: 0, stretch: "asinh", zoom: 0, trail: true, timer: 0 };

function article() { return holder.querySelector("article"); }
function shots() { return [...holder.querySelectorAll(".shot")]; }

function valuesOf(shot) {
  if (!shot.values) {
    const bytes = Uint8Array.from(atob(shot.dataset.values), (letter) => letter.charCodeAt(0));
    shot.values = new Float32Array(bytes.buffer);
    shot.ranges = JSON.parse(shot.dataset.ranges);
  }
  return shot.values;
}

function draw(shot, canvas) {
  const side = Number(shot.dataset.side), values = valuesOf(shot), range = shot.ranges[view.stretch];
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true }), image = context.createImageData(side, side);
  const wide = range.high - range.low, top = range.soft ? Math.asinh(wide / range.soft) : 1;
  for (let n = 0; n < values.length; n++) {
    const above = Math.min(Math.max(values[n] - range.low, 0), wide);
    const share = range.soft ? Math.asinh(above / range.soft) / top : above / wide;
    for (let part = 0; part < 3; part++) {
      image.data[4 * n + part] = Number.isNaN(values[n]) ? NONE[part] : DARK[part] + share * (LIGHT[part] - DARK[part]);
    }
    image.data[4 * n + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function drawAll() {
  for (const shot of shots()) {
    const stamp = shot.querySelector(".stamp");
    let canvas = stamp.querySelector("canvas");
    if (!canvas) {
      canvas = document.createElement("canvas");
      stamp.querySelector("img").replaceWith(canvas);
    }
    draw(shot, canvas);
  }
  enlarge();
}

function enlarge() {
  const stage = document.getElementById("stage"), all = shots();
  if (!stage || !all.length) return;
  view.shot = Math.min(view.shot, all.length - 1);
  const shot = all[view.shot], canvas = stage.querySelector("canvas") || document.createElement("canvas");
  draw(shot, canvas);
  const overlay = shot.querySelector("svg");
  stage.replaceChildren(canvas, ...(overlay && view.trail ? [overlay.cloneNode(true)] : []));
  stage.style.width = `${100 * ZOOMS[view.zoom]}%`;
  document.getElementById("zoom").textContent = `${ZOOMS[view.zoom]}×`;
  all.forEach((one, place) => one.setAttribute("aria-pressed", String(place === view.shot)));
  holder.classList.toggle("bare", !view.trail);
  holder.querySelector('[data-do="trail"]').setAttribute("aria-pressed", String(view.trail));
  document.getElementById("stretch").value = view.stretch;
}

function read(event) {
  const all = shots(), line = document.getElementById("reading"), canvas = event.target.closest("#stage canvas");
  if (!canvas || !all.length) return;
  const shot = all[view.shot], box = canvas.getBoundingClientRect(), side = Number(shot.dataset.side);
  const x = Math.floor(side * (event.clientX - box.left) / box.width), y = Math.floor(side * (event.clientY - box.top) / box.height);
  const value = valuesOf(shot)[side * y + x];
  line.textContent = Number.isFinite(value) ? `${Number(value.toPrecision(5))} ${shot.dataset.unit}` : "no value";
}

function blink() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const button = holder.querySelector('[data-do="blink"]');
  if (calm) { step(); return; }
  if (view.timer) { still(); return; }
  view.timer = setInterval(step, BLINK_MS);
  button.setAttribute("aria-pressed", "true");
}

function still() {
  clearInterval(view.timer);
  view.timer = 0;
  holder.querySelector('[data-do="blink"]')?.setAttribute("aria-pressed", "false");
}

function step() {
  const all = shots();
  if (!all.length) return;
  const own = all.map((shot, place) => (shot.dataset.own ? place : -1)).filter((place) => place >= 0);
  const among = own.length > 1 ? own : all.map((_, place) => place);
  view.shot = among[(among.indexOf(view.shot) + 1) % among.length];
  enlarge();
}

function zoom(by) {
  view.zoom = Math.min(Math.max(view.zoom + by, 0), ZOOMS.length - 1);
  enlarge();
  const frame = holder.querySelector(".main-view");
  frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
  frame.scrollTop = (frame.scrollHeight - frame.clientHeight) / 2;
}

// ---- Verdicts ----

const given = [];
let ahead = null, waiting = Promise.resolve(), busy = null;

function part(id, ticket) { return `/candidate/${id}?${article().dataset.query}&t=${ticket}`; }

async function following() {
  const one = article();
  await waiting;
  const { next } = await (await get(`/next?${one.dataset.query}&after=${one.dataset.id}`)).json();
  return next && fetched(next);
}

async function fetched(next) {
  const address = part(next.id, next.t);
  const made = document.createElement("template");
  made.innerHTML = await (await get(`${address}&part=1`)).text();
  return { address, article: made.content.querySelector("article") };
}

function prefetch() {
  ahead = following();
  ahead.catch(() => {});
}

// The button that holds the focus: who works with Tab and Enter, or a screen reader, goes on from it.
function held() {
  const one = holder.querySelector("button:focus-visible");
  const name = ["data-verdict", "data-do"].find((each) => one?.hasAttribute(each));
  return name ? `[${name}="${one.getAttribute(name)}"]` : "";
}

function show(found, again) {
  still();
  const button = held();
  holder.replaceChildren(found.article);
  if (button) holder.querySelector(button).focus({ preventScroll: true });
  if (!again) history.pushState(null, "", found.address);
  document.title = `Candidate ${found.article.dataset.id} · nightstride`;
  view.shot = 0;
  view.zoom = 0;
  drawAll();
  scrollTo(0, 0);
  prefetch();
  document.dispatchEvent(new CustomEvent("shown", { detail: found.article.dataset.id }));
}

async function advance() {
  let found = null;
  try {
    found = await ahead;
  } catch { found = await following(); }
  if (found) show(found);
  return Boolean(found);
}

function ended(said = "") {
  const line = tell(`${said}Nothing else is left to judge in this list. `, false), link = document.createElement("a");
  link.href = `/?${article().dataset.query}`;
  link.textContent = "Back to the list";
  line.append(link);
}

// One action at a time: a key that comes meanwhile would judge what is not seen yet.
function act(work) {
  if (busy) return busy;
  busy = work().catch((error) => tell(error.message, true)).finally(() => { busy = null; });
  return busy;
}

function judge(verdict) {
  return act(async () => {
    const one = article(), id = one.dataset.id;
    const entry = { article: one, address: location.pathname + location.search };
    tell("");
    entry.said = post("/verdict", { id, verdict, ticket: one.dataset.ticket });
    entry.said.then(({ record }) => { entry.record = record; }, () => {});
    waiting = entry.said.catch(() => {});
    given.push(entry);
    const moved = await advance();
    entry.said.then(() => { if (moved) tell(`${id}: ${verdict}`); }, (error) => lost(entry, error));
    if (moved) return;
    await waiting;
    if (!entry.record) return;
    show(await fetched({ id, t: one.dataset.ticket }), true);
    ended(`${id}: ${verdict}. `);
  });
}

async function lost(entry, error) {
  while (busy) await busy;
  given.splice(given.indexOf(entry), 1);
  if (article() !== entry.article) show(entry);
  tell(`The verdict on ${entry.article.dataset.id} was not kept. ${error.message}`, true);
}

function undo() {
  return act(async () => {
    const last = given.pop();
    const record = last ? (await last.said).record : article().dataset.record || null;
    const { back } = await post("/undo", { record });
    given.splice(0, given.length, ...given.filter((one) => one.record !== record)); // said twice: one line
    show(await fetched(back));
    tell(`The verdict on ${back.id} is taken back.`);
  });
}

function skip() { return act(async () => { if (!await advance()) ended(); }); }

function press(key) {
  const button = holder.querySelector(`[aria-keyshortcuts="${CSS.escape(key)}"]`);
  if (/^[1-9]$/.test(key)) choose(Number(key) - 1);
  else if (key === "c") stretch(STRETCHES[(STRETCHES.indexOf(view.stretch) + 1) % STRETCHES.length]);
  else if (key === "=" || key === "+") zoom(1);
  else if (key === "-") zoom(-1);
  else if (button) button.click();
  else return false;
  return true;
}

function choose(place) {
  if (place < shots().length) { still(); view.shot = place; enlarge(); }
}

function stretch(name) { view.stretch = name; drawAll(); }

const ACTIONS = {
  next: skip, undo, blink, help: () => document.getElementById("help").showModal(),
  trail: () => { view.trail = !view.trail; enlarge(); }, in: () => zoom(1), out: () => zoom(-1),
};

if (holder) {
  holder.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.verdict) judge(button.dataset.verdict);
    else if (button.dataset.shot) choose(Number(button.dataset.shot));
    else ACTIONS[button.dataset.do]?.();
  });
  holder.addEventListener("change", (event) => { if (event.target.id === "stretch") stretch(event.target.value); });
  holder.addEventListener("pointermove", read);
  document.addEventListener("keydown", (event) => {
    // In the choice of a stretch the keys of the page count, too: whoever has used it goes on with a verdict.
    const typing = event.target.closest("input, select:not(#stretch), textarea, dialog[open]");
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing) return;
    if (document.getElementById("help").open) return;
    if (press(event.key.toLowerCase())) event.preventDefault();  // Caps Lock
  });
  addEventListener("popstate", () => location.reload());
  if (article()) { drawAll(); prefetch(); }
}
