"use strict";
// Viewer of a whole detector: tiles of the level that fits, marks that lead to candidates.

const viewer = document.getElementById("viewer");
const tiles = document.getElementById("tiles"), overlay = document.getElementById("overlay");
const side = Number(viewer.dataset.side), levels = Number(viewer.dataset.levels);
const nx = Number(viewer.dataset.nx), ny = Number(viewer.dataset.ny);
const SVG = "http://www.w3.org/2000/svg";
const LARGEST = 16;  // screen px of a pixel
const MARK_PX = 14;
const state = { x: nx / 2, y: ny / 2, scale: 1 };  // middle, in px from the lower left corner; screen px of a pixel
const images = new Map(), circles = [];

function smallest() { return Math.min(viewer.clientWidth / nx, viewer.clientHeight / ny, 1); }

function whole() {
  Object.assign(state, { x: nx / 2, y: ny / 2, scale: smallest() });
  render();
}

function level() { return Math.max(0, Math.min(levels - 1, Math.floor(Math.log2(1 / state.scale) + 1e-6))); }

// Where a tile ends: a whole tile further, or at the end of the image, to whole bins.
function extent(place, size, end, depth) {
  return Math.min((place + 1) * size, Math.ceil(end / 2 ** depth) * 2 ** depth);
}

function render() {
  const wide = viewer.clientWidth / state.scale, high = viewer.clientHeight / state.scale;
  state.x = Math.min(Math.max(state.x, 0), nx);
  state.y = Math.min(Math.max(state.y, 0), ny);
  const left = state.x - wide / 2, top = state.y + high / 2;
  const at = level(), span = side * 2 ** at, plane = document.getElementById("plane").value;
  const needed = new Set();
  const rows = [Math.max(0, Math.floor((top - high) / span)), Math.min(Math.ceil(ny / span) - 1, Math.floor(top / span))];
  const columns = [Math.max(0, Math.floor(left / span)), Math.min(Math.ceil(nx / span) - 1, Math.floor((left + wide) / span))];
  for (let row = rows[0]; row <= rows[1]; row++) {
    for (let column = columns[0]; column <= columns[1]; column++) {
      const name = `${plane}/${at}/${row}-${column}`;
      needed.add(name);
      if (!images.has(name)) add(name, { at, row, column });
    }
  }
  for (const image of images.values()) {
    const { at: depth, row, column } = image.place, size = side * 2 ** depth;
    const right = extent(column, size, nx, depth), upper = extent(row, size, ny, depth);
    image.style.left = `${(column * size - left) * state.scale}px`;
    image.style.top = `${(top - upper) * state.scale}px`;
    image.style.width = `${(right - column * size) * state.scale + 0.5}px`;
    image.style.height = `${(upper - row * size) * state.scale + 0.5}px`;
  }
  images.needed = needed;
  tidy();
  overlay.setAttribute("viewBox", `${left} ${ny - top} ${wide} ${high}`);
  for (const circle of circles) circle.setAttribute("r", Math.max(MARK_PX / state.scale, circle.length / 2 + 4));
  document.getElementById("scale").textContent = state.scale >= 1
    ? `${state.scale.toFixed(1)} screen px a pixel` : `1 screen px for ${(1 / state.scale).toFixed(1)} px`;
}

function add(name, place) {
  const image = new Image();
  image.alt = "";
  image.draggable = false;
  image.place = place;
  image.addEventListener("load", tidy);
  image.addEventListener("error", tidy);
  image.src = `${viewer.dataset.base}/${name}.png`;
  images.set(name, image);
  tiles.append(image);
}

function tidy() {
  const missing = [...images.needed].some((name) => !images.get(name)?.complete);
  viewer.setAttribute("aria-busy", String(missing));
  if (missing && images.size < 200) return;
  for (const [name, image] of images) {
    if (!images.needed.has(name)) { image.remove(); images.delete(name); }
  }
}

function scale(by, event) {
  const box = viewer.getBoundingClientRect();
  const dx = event ? event.clientX - box.left - box.width / 2 : 0, dy = event ? event.clientY - box.top - box.height / 2 : 0;
  const next = Math.min(Math.max(state.scale * by, smallest()), LARGEST);
  state.x += dx / state.scale - dx / next;
  state.y -= dy / state.scale - dy / next;
  state.scale = next;
  render();
}

function move(dx, dy) {
  state.x -= dx / state.scale;
  state.y += dy / state.scale;
  render();
}

for (const link of document.querySelectorAll("#marks-list a")) {
  const mark = document.createElementNS(SVG, "a"), circle = document.createElementNS(SVG, "circle");
  const title = document.createElementNS(SVG, "title");
  const words = link.parentElement.textContent.trim();
  mark.setAttribute("href", link.getAttribute("href"));
  mark.setAttribute("aria-label", words);
  mark.setAttribute("class", `grade-${link.dataset.grade}`);
  circle.setAttribute("cx", Number(link.dataset.x) + 0.5);
  circle.setAttribute("cy", ny - (Number(link.dataset.y) + 0.5));
  circle.length = Number(link.dataset.length);
  title.textContent = words;
  mark.append(title, circle);
  overlay.append(mark);
  circles.push(circle);
}

const pointers = new Map();
let dragged = false;
viewer.addEventListener("pointerdown", (event) => {
  pointers.set(event.pointerId, event);
  dragged = false;
});
viewer.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!event.buttons) pointers.delete(event.pointerId);  // let go outside
  if (!before || !event.buttons) return;
  const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
  if (!dragged && Math.hypot(dx, dy) < 4) return;
  dragged = true;
  viewer.setPointerCapture(event.pointerId);
  const others = [...pointers.entries()].filter(([id]) => id !== event.pointerId);
  pointers.set(event.pointerId, event);
  if (others.length === 1) {
    const [, other] = others[0];
    const apart = (one) => Math.max(10, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY));
    scale(apart(event) / apart(before), other);
  } else move(dx, dy);
});
for (const end of ["pointerup", "pointercancel"]) viewer.addEventListener(end, (event) => pointers.delete(event.pointerId));
viewer.addEventListener("click", (event) => { if (dragged) event.preventDefault(); }, true);
viewer.addEventListener("dragstart", (event) => event.preventDefault());
viewer.addEventListener("wheel", (event) => {
  event.preventDefault();
  scale(Math.exp(-event.deltaY / 400), event);
}, { passive: false });
viewer.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (steps[event.key]) move(...steps[event.key]);
  else if (event.key === "+" || event.key === "=") scale(1.5);
  else if (event.key === "-") scale(1 / 1.5);
  else if (event.key === "0") whole();
  else return;
  event.preventDefault();
});
document.getElementById("larger").addEventListener("click", () => scale(1.5));
document.getElementById("smaller").addEventListener("click", () => scale(1 / 1.5));
document.getElementById("whole").addEventListener("click", whole);
document.getElementById("plane").addEventListener("change", render);
document.getElementById("marks").addEventListener("click", (event) => {
  const shown = overlay.toggleAttribute("hidden") === false;
  event.target.setAttribute("aria-pressed", String(shown));
});
addEventListener("resize", render);

if (Number(viewer.dataset.x) >= 0) {
  Object.assign(state, { x: Number(viewer.dataset.x) + 0.5, y: Number(viewer.dataset.y) + 0.5, scale: 2 });
  render();
} else whole();
