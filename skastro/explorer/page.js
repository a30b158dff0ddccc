"use strict";

// What the page holds.

const element = (id) => document.getElementById(id);
const about = JSON.parse(element("about").textContent);
const n = about.n;

function bytes(key) {
  const block = element(key);
  if (!block) return null;
  const text = atob(block.textContent);
  const values = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) values[i] = text.charCodeAt(i);
  block.remove(); // its text would stay in memory
  return values;
}

function array(key, Kind) {
  const values = bytes(key);
  return values && new Kind(values.buffer);
}

const positions = array("positions", Float32Array);
const vectors = array("vectors", Int8Array);
const dimensions = vectors.length / n;
const ra = array("ra", Float64Array);
const dec = array("dec", Float64Array);
const columns = about.columns.map((column) => ({
  ...column,
  values: array(column.key, column.classes ? Int32Array : Float32Array),
}));
const thumbnails = about.thumbnails;
const lines = array("lines", Uint8Array);
const pictured = array("pictured", Uint32Array); // rows with a thumbnail, if not all have one
const slots = pictured && new Map(Array.from(pictured, (row, slot) => [row, slot]));
const nameOf = (row) => (about.ids ? about.ids[row] : String(row));

// What a person does.

const selection = new Uint8Array(n);
const given = new Array(n).fill(""); // labels by hand
let selected = 0;
let chosen = -1;
let hovered = -1;
let lassoing = false;
let showingThumbnails = false;
let unsaved = false;
const past = []; // earlier labels, to undo

// The view: what lies in the middle, and pixels of the page per unit of the map.

const map = element("map");
const points = element("points");
const base = points.getContext("2d", { alpha: false });
const overlay = map.getContext("2d");
const view = { x: 0, y: 0, scale: 1, whole: 1, width: 1, height: 1, ratio: 1 };
let frame = null; // the pixels of the points
let awaited = { base: false, overlay: false };

function extent() {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    left = Math.min(left, positions[2 * i]);
    right = Math.max(right, positions[2 * i]);
    bottom = Math.min(bottom, positions[2 * i + 1]);
    top = Math.max(top, positions[2 * i + 1]);
  }
  return { left, right, bottom, top };
}
const bounds = extent();

function showWhole() {
  const width = Math.max(bounds.right - bounds.left, 1e-9);
  const height = Math.max(bounds.top - bounds.bottom, 1e-9);
  view.x = (bounds.left + bounds.right) / 2;
  view.y = (bounds.bottom + bounds.top) / 2;
  view.whole = view.scale = 0.9 * Math.min(view.width / width, view.height / height);
  redraw();
}

function resize() {
  const first = frame === null;
  const before = view.whole;
  const box = map.getBoundingClientRect();
  view.ratio = window.devicePixelRatio || 1;
  view.width = Math.max(box.width, 1);
  view.height = Math.max(box.height, 1);
  for (const canvas of [map, points]) {
    canvas.width = Math.round(view.width * view.ratio);
    canvas.height = Math.round(view.height * view.ratio);
  }
  frame = base.createImageData(points.width, points.height);
  if (first || view.scale === before) showWhole();
  redraw();
}

const across = (row) => view.width / 2 + (positions[2 * row] - view.x) * view.scale;
const down = (row) => view.height / 2 - (positions[2 * row + 1] - view.y) * view.scale;

function zoom(factor, x = view.width / 2, y = view.height / 2) {
  const scale = Math.min(Math.max(view.scale * factor, view.whole / 4), view.whole * 2000);
  view.x += (x - view.width / 2) * (1 / view.scale - 1 / scale);
  view.y -= (y - view.height / 2) * (1 / view.scale - 1 / scale);
  view.scale = scale;
  redraw();
}

function move(x, y) {
  view.x -= x / view.scale;
  view.y += y / view.scale;
  redraw();
}

function center(row) {
  view.x = positions[2 * row];
  view.y = positions[2 * row + 1];
  redraw();
}

// Colors. Those of Okabe and Ito, which color-blind people can tell apart; what comes after the seventh class is gray.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const GRAY = [128, 134, 140];
const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 73, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121],
  [110, 206, 88], [181, 222, 43], [253, 231, 37],
];
const hues = () => [
  dark.matches ? [64, 150, 215] : [0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0],
  [86, 180, 233], dark.matches ? [240, 240, 240] : [0, 0, 0],
];
if (dark.matches) VIRIDIS[0] = [90, 24, 110];

function ramp(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, k) => value + (place - low) * (VIRIDIS[low + 1][k] - value));
}

function styled(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const css = (color) => `rgb(${color.map(Math.round).join(" ")})`;

const colors = new Uint32Array(n);
const dimmed = new Uint32Array(n); // of what is not selected, if something is
let background = 0;

function paint(colorOf) {
  const paper = rgb(styled("--back"));
  background = packed(paper);
  const known = new Map(); // colors repeat
  for (let i = 0; i < n; i++) {
    const color = colorOf(i);
    let pair = known.get(color);
    if (!pair) {
      const faint = color.map((value, k) => 0.25 * value + 0.75 * paper[k]);
      pair = [packed(color.map(Math.round)), packed(faint.map(Math.round))];
      known.set(color, pair);
    }
    [colors[i], dimmed[i]] = pair;
  }
  redraw();
}

function byClass(codes, names) {
  const counts = new Array(names.length).fill(0);
  let missing = 0;
  for (const code of codes) code < 0 ? missing++ : counts[code]++;
  const order = names.map((_, code) => code);
  if (names.length > 7) order.sort((a, b) => counts[b] - counts[a]);
  const palette = hues();
  const colorOf = new Array(names.length).fill(GRAY);
  order.slice(0, 7).forEach((code, place) => (colorOf[code] = palette[place]));
  paint((i) => (codes[i] < 0 ? GRAY : colorOf[codes[i]]));
  const rows = order.slice(0, 50).map((code) => [colorOf[code], names[code], counts[code], (i) => codes[i] === code]);
  if (missing) rows.push([GRAY, "(none)", missing, (i) => codes[i] < 0]);
  element("legend").replaceChildren(...rows.map((row) => entry(...row)));
  if (order.length > 50) element("legend").append(note(`and ${order.length - 50} more`));
}

function entry(color, name, count, isIn) {
  const button = document.createElement("button");
  const [swatch, text, number] = [0, 1, 2].map(() => document.createElement("span"));
  swatch.className = "swatch";
  swatch.style.background = css(color);
  text.textContent = name;
  number.textContent = count.toLocaleString("en");
  button.append(swatch, text, number);
  button.title = "Select";
  button.addEventListener("click", () => select(rowsWhere(isIn)));
  return button;
}

function note(words) {
  const paragraph = document.createElement("p");
  paragraph.className = "quiet";
  paragraph.textContent = words;
  return paragraph;
}

const short = (value) => String(Number(value.toPrecision(4)));

function byValue(values) {
  const known = Float64Array.from(values.filter(Number.isFinite)).sort();
  const at = (share) => (known.length ? known[Math.round(share * (known.length - 1))] : 0);
  const [low, high] = [at(0.02), at(0.98)];
  const shades = Array.from({ length: 256 }, (_, k) => ramp(k / 255));
  const shadeOf = (value) => shades[Math.round(255 * Math.min(Math.max((value - low) / (high - low || 1), 0), 1))];
  paint((i) => (Number.isFinite(values[i]) ? shadeOf(values[i]) : GRAY));
  const bar = document.createElement("canvas");
  bar.width = 256;
  bar.height = 1;
  shades.forEach((shade, k) => {
    bar.getContext("2d").fillStyle = css(shade);
    bar.getContext("2d").fillRect(k, 0, 1, 1);
  });
  const ends = document.createElement("div");
  ends.className = "ends";
  for (const value of [`≤ ${short(low)}`, `≥ ${short(high)}`]) {
    ends.append(Object.assign(document.createElement("span"), { textContent: value }));
  }
  const missing = n - known.length;
  element("legend").replaceChildren(bar, ends);
  if (missing) element("legend").append(note(`${missing.toLocaleString("en")} without a value are gray.`));
}

function byDensity() {
  const cells = Math.min(Math.max(Math.round(Math.sqrt(n) / 2), 5), 150);
  const counts = new Float32Array(cells * cells);
  const places = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    const x = (positions[2 * i] - bounds.left) / (bounds.right - bounds.left || 1);
    const y = (positions[2 * i + 1] - bounds.bottom) / (bounds.top - bounds.bottom || 1);
    places[i] = Math.min(Math.floor(x * cells), cells - 1) + cells * Math.min(Math.floor(y * cells), cells - 1);
    counts[places[i]]++;
  }
  byValue(Float32Array.from(places, (place) => counts[place]));
  element("legend").append(note("Objects in a cell of the map."));
}

function recolor() {
  const choice = element("color").value;
  if (choice === "density") byDensity();
  else if (choice === "label") {
    const names = [...new Set(given)].filter(Boolean).sort();
    const codes = new Map(names.map((name, code) => [name, code]));
    byClass(Int32Array.from(given, (name) => codes.get(name) ?? -1), names);
  } else {
    const column = columns[Number(choice)];
    column.classes ? byClass(column.values, column.classes) : byValue(column.values);
  }
}

// Thumbnails. A sheet is decoded when it is first looked at.

const decoded = new Map();
const waiting = []; // what draws again once a sheet is there

function sheet(number) {
  if (decoded.has(number)) return decoded.get(number);
  decoded.set(number, null);
  createImageBitmap(new Blob([bytes(`sheet-${number}`)], { type: "image/webp" })).then((bitmap) => {
    decoded.set(number, bitmap);
    waiting.splice(0).forEach((again) => again());
    redraw();
  });
  return null;
}

function slotOf(row) {
  if (!thumbnails) return -1;
  return slots ? (slots.get(row) ?? -1) : row;
}

// Draws a thumbnail into a square; returns false while its sheet is not there yet.
function drawThumbnail(context, row, x, y, size) {
  const slot = slotOf(row);
  if (thumbnails.kind === "lines") {
    drawLine(context, slot, x, y, size);
    return true;
  }
  const perSheet = thumbnails.per_side ** 2;
  const bitmap = sheet(Math.floor(slot / perSheet));
  if (!bitmap) return false;
  const side = thumbnails.side;
  const place = slot % perSheet;
  const across = Math.round(bitmap.width / side);
  context.imageSmoothingEnabled = size < 4 * side;
  context.drawImage(bitmap, (place % across) * side, Math.floor(place / across) * side, side, side, x, y, size, size);
  return true;
}

function drawLine(context, slot, x, y, size) {
  context.fillStyle = styled("--back");
  context.fillRect(x, y, size, size);
  context.strokeStyle = css(hues()[0]);
  context.lineWidth = Math.max(size / 90, 1);
  context.beginPath();
  let drawing = false;
  for (let k = 0; k < 64; k++) {
    const level = lines[64 * slot + k];
    if (level === 255) {
      drawing = false;
      continue;
    }
    const [left, top] = [x + size * (0.04 + 0.92 * (k / 63)), y + size * (0.94 - 0.88 * (level / 254))];
    // A point with a gap on both sides is a dash.
    if (!drawing) context.moveTo(left - 1, top);
    context.lineTo(left, top);
    drawing = true;
  }
  context.stroke();
}

function fill(canvas, row, size) {
  canvas.hidden = slotOf(row) < 0;
  if (canvas.hidden) return;
  canvas.width = canvas.height = size * view.ratio;
  const draw = () => drawThumbnail(canvas.getContext("2d"), row, 0, 0, canvas.width);
  canvas.wanted = draw;
  if (!draw()) waiting.push(() => canvas.wanted === draw && fill(canvas, row, size));
}

// Drawing: points pixel by pixel, which is quick for a hundred thousand of them.

function redraw() {
  awaited.base = true;
  redrawOverlay();
}
function redrawOverlay() {
  if (!awaited.overlay) {
    awaited.overlay = true;
    requestAnimationFrame(draw);
  }
}

function draw() {
  if (awaited.base) {
    drawPoints();
    if (showingThumbnails) drawGrid();
  }
  drawOverlay();
  performance.mark("drawn");
  awaited = { base: false, overlay: false };
}

function radius() {
  const small = n > 50000 ? 1.2 : n > 10000 ? 1.7 : n > 2000 ? 2.3 : 3;
  return small * Math.min(Math.max((view.scale / view.whole) ** 0.4, 1), 3);
}

// The lines of a disk: where, and half as wide.
function disk(reach) {
  const lines = [];
  for (let line = -reach; line <= reach; line++) lines.push([line, Math.floor(Math.sqrt((reach + 0.5) ** 2 - line ** 2))]);
  return lines;
}

function drawPoints() {
  const [width, height] = [points.width, points.height];
  const pixels = new Uint32Array(frame.data.buffer);
  pixels.fill(background);
  const spans = disk(Math.round(radius() * view.ratio));
  const scale = view.scale * view.ratio;
  const left = width / 2 - view.x * scale;
  const top = height / 2 + view.y * scale;
  const edge = spans[spans.length - 1][0];
  for (let turn = selected ? 0 : 1; turn < 2; turn++) {
    const from = turn ? colors : dimmed;
    for (let i = 0; i < n; i++) {
      if (selected && selection[i] !== turn) continue;
      const x = Math.round(left + positions[2 * i] * scale);
      const y = Math.round(top - positions[2 * i + 1] * scale);
      if (x < edge || y < edge || x >= width - edge || y >= height - edge) continue;
      const color = from[i];
      for (const [line, half] of spans) {
        const start = (y + line) * width + x;
        for (let k = start - half; k <= start + half; k++) pixels[k] = color;
      }
    }
  }
  base.putImageData(frame, 0, 0);
}

const CELL = 56; // of the grid of thumbnails, in pixels of the page
const grid = new Map(); // from a cell to its object

function cellOf(x, y) {
  // The grid moves with the map, so that a thumbnail stays while the map is moved.
  const [shiftX, shiftY] = [view.x * view.scale, -view.y * view.scale].map((shift) => -(shift % CELL));
  return [Math.floor((x - shiftX) / CELL), Math.floor((y - shiftY) / CELL), shiftX, shiftY];
}
const cellKey = (column, line) => column * 4096 + line;

function drawGrid() {
  grid.clear();
  for (let i = 0; i < n; i++) {
    if (slotOf(i) < 0 || (selected && !selection[i])) continue;
    const [column, line, shiftX, shiftY] = cellOf(across(i), down(i));
    if (column < -2 || line < -2 || column * CELL > view.width + CELL || line * CELL > view.height + CELL) continue;
    if (grid.has(cellKey(column, line))) continue;
    grid.set(cellKey(column, line), i);
    const [x, y] = [shiftX + column * CELL + 2, shiftY + line * CELL + 2].map((value) => value * view.ratio);
    drawThumbnail(base, i, x, y, (CELL - 4) * view.ratio);
  }
}

function ring(row, size, color) {
  overlay.strokeStyle = color;
  overlay.beginPath();
  overlay.arc(across(row), down(row), size, 0, 2 * Math.PI);
  overlay.stroke();
}

function drawOverlay() {
  overlay.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  overlay.clearRect(0, 0, view.width, view.height);
  const ink = styled("--ring");
  overlay.lineWidth = 2;
  for (const row of alike) ring(row, 6, styled("--focus"));
  if (hovered >= 0) ring(hovered, 7, ink);
  if (chosen >= 0) {
    overlay.lineWidth = 3;
    ring(chosen, 9, ink);
  }
  if (map.matches(":focus-visible")) drawCross(ink);
  if (path.length) {
    overlay.lineWidth = 2;
    overlay.strokeStyle = ink;
    overlay.setLineDash([6, 4]);
    overlay.beginPath();
    path.forEach(([x, y]) => overlay.lineTo(x, y));
    overlay.closePath();
    overlay.stroke();
    overlay.setLineDash([]);
  }
}

function drawCross(ink) {
  const [x, y] = [view.width / 2, view.height / 2];
  overlay.strokeStyle = ink;
  overlay.lineWidth = 1;
  overlay.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    overlay.moveTo(x + 5 * dx, y + 5 * dy);
    overlay.lineTo(x + 14 * dx, y + 14 * dy);
  }
  overlay.stroke();
}

// Selecting.

function rowsWhere(isIn) {
  const rows = [];
  for (let i = 0; i < n; i++) if (isIn(i)) rows.push(i);
  return rows;
}

function select(rows) {
  selection.fill(0);
  for (const row of rows) selection[row] = 1;
  selected = rows.length;
  element("selected").textContent = selected
    ? `${selected.toLocaleString("en")} selected.`
    : "Nothing is selected.";
  say(element("selected").textContent);
  redraw();
}

function say(words) {
  element("status").textContent = words;
}

function nearest(x, y, reach) {
  let [best, least] = [-1, reach ** 2];
  for (let i = 0; i < n; i++) {
    const distance = (across(i) - x) ** 2 + (down(i) - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

// The object of the thumbnail that is pointed at, or else the nearest.
function pointedAt(x, y) {
  const inCell = showingThumbnails ? grid.get(cellKey(...cellOf(x, y))) : undefined;
  return inCell ?? nearest(x, y, 14);
}

function isInside(corners, x, y) {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[x1, y1], [x2, y2]] = [corners[i], corners[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

function selectInside(corners) {
  const [left, right] = [Math.min(...corners.map((c) => c[0])), Math.max(...corners.map((c) => c[0]))];
  select(rowsWhere((i) => {
    const x = across(i);
    return x >= left && x <= right && isInside(corners, x, down(i));
  }));
}

// Look-alikes: the largest cosines between the embeddings, about their mean.

let alike = [];
const lengths = new Float32Array(n);
for (let i = 0; i < n; i++) {
  let sum = 0;
  for (let k = 0; k < dimensions; k++) sum += vectors[i * dimensions + k] ** 2;
  lengths[i] = Math.sqrt(sum) || 1;
}

function lookAlikes(row, count = 12) {
  const found = []; // [cosine, row], the largest first
  for (let i = 0; i < n; i++) {
    let product = 0;
    for (let k = 0; k < dimensions; k++) product += vectors[row * dimensions + k] * vectors[i * dimensions + k];
    const cosine = product / (lengths[row] * lengths[i]);
    if (i === row || (found.length === count && cosine <= found[count - 1][0])) continue;
    let place = found.length;
    while (place > 0 && found[place - 1][0] < cosine) place--;
    found.splice(place, 0, [cosine, i]);
    if (found.length > count) found.pop();
  }
  return found;
}

function choose(row) {
  chosen = row;
  const found = row < 0 ? [] : lookAlikes(row);
  alike = found.map(([, other]) => other);
  element("nothing").hidden = row >= 0;
  element("object").hidden = row < 0;
  element("alike-name").hidden = !found.length;
  if (row >= 0) describe(row);
  element("alike").replaceChildren(...found.map(([cosine, other]) => alikeButton(cosine, other)));
  for (const button of element("alike").children) fill(button.firstChild, Number(button.dataset.row), 72);
  redrawOverlay();
}

function alikeButton(cosine, row) {
  const button = document.createElement("button");
  button.dataset.row = row;
  button.title = nameOf(row);
  button.setAttribute("aria-label", `${nameOf(row)}, cosine ${cosine.toFixed(2)}`);
  button.append(document.createElement("canvas"), thumbnails ? cosine.toFixed(2) : `${nameOf(row)} ${cosine.toFixed(2)}`);
  button.addEventListener("click", () => {
    choose(row);
    element("alike").firstChild?.focus({ preventScroll: true });
  });
  button.addEventListener("pointerenter", () => hover(row));
  button.addEventListener("pointerleave", () => hover(-1));
  return button;
}

function facts(row) {
  const rows = [["name", nameOf(row)]];
  if (about.ids) rows.push(["row", String(row)]);
  if (given[row]) rows.push(["label", given[row]]);
  if (ra) rows.push(["RA", sky(ra[row])], ["Dec", sky(dec[row])]);
  for (const { name, classes, values } of columns) {
    const value = values[row];
    rows.push([name, classes ? (classes[value] ?? "–") : Number.isFinite(value) ? short(value) : "–"]);
  }
  return rows;
}
const sky = (degrees) => (Number.isFinite(degrees) ? `${degrees.toFixed(5)}°` : "–");

function describe(row) {
  const list = element("object").querySelector("dl");
  list.replaceChildren(...facts(row).flatMap(([term, words]) => [
    Object.assign(document.createElement("dt"), { textContent: term }),
    Object.assign(document.createElement("dd"), { textContent: words }),
  ]));
  const canvas = element("object").querySelector("canvas");
  fill(canvas, row, 128);
  element("object").className = canvas.hidden ? "bare" : "";
  say(`${nameOf(row)}${given[row] ? `, labeled ${given[row]}` : ""}`);
}

function hover(row) {
  if (row === hovered) return;
  hovered = row;
  const tip = element("tip");
  tip.hidden = row < 0;
  if (row >= 0) {
    const current = columns[Number(element("color").value)];
    const fact = current && facts(row).find(([term]) => term === current.name);
    tip.querySelector("p").textContent = [nameOf(row), fact && fact.join(": "), given[row]].filter(Boolean).join("\n");
    fill(tip.querySelector("canvas"), row, 144);
    const [x, y] = [across(row), down(row)];
    const left = x + 16 + tip.offsetWidth > view.width ? x - 16 - tip.offsetWidth : x + 16;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${Math.min(Math.max(y - tip.offsetHeight / 2, 4), view.height - tip.offsetHeight - 4)}px`;
  }
  redrawOverlay();
}

// Finding.

function findName(wanted) {
  const text = wanted.trim().toLowerCase();
  if (!text) return;
  const same = rowsWhere((i) => nameOf(i).toLowerCase() === text);
  const found = same.length ? same : rowsWhere((i) => nameOf(i).toLowerCase().includes(text));
  found.length ? show(found) : say(`No name has “${wanted.trim()}”.`);
}

function separation(ra1, dec1, ra2, dec2) {
  const turn = Math.PI / 180;
  const half = (angle) => Math.sin((angle * turn) / 2) ** 2;
  const square = half(dec2 - dec1) + Math.cos(dec1 * turn) * Math.cos(dec2 * turn) * half(ra2 - ra1);
  return (2 * Math.asin(Math.min(Math.sqrt(square), 1))) / turn;
}

function findCone(center, declination, radius) {
  if (![center, declination, radius].every(Number.isFinite) || radius < 0) {
    say("A cone needs RA and Dec in degrees, and a radius in arcseconds.");
    return;
  }
  const distance = (i) => separation(center, declination, ra[i], dec[i]);
  const found = rowsWhere((i) => distance(i) * 3600 <= radius);
  found.sort((a, b) => distance(a) - distance(b));
  found.length ? show(found) : say("Nothing is in this cone.");
}

function show(rows) {
  select(rows);
  choose(rows[0]);
  const [x, y] = [across(rows[0]), down(rows[0])];
  if (x < 0 || y < 0 || x > view.width || y > view.height) center(rows[0]);
  say(`${rows.length.toLocaleString("en")} found; the first is ${nameOf(rows[0])}.`);
}

// Labels.

const labelInputs = Array.from({ length: 9 }, (_, k) => {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.value = about.labels[k] ?? "";
  input.placeholder = String(k + 1);
  input.setAttribute("aria-label", `Label on key ${k + 1}`);
  label.append(String(k + 1), input);
  element("labels").append(label);
  return input;
});

function label(name) {
  const rows = selected ? rowsWhere((i) => selection[i]) : chosen >= 0 ? [chosen] : [];
  if (!rows.length) {
    say("Select objects first, or choose one.");
    return;
  }
  relabel(rows.map((row) => [row, name]));
  say(`${rows.length.toLocaleString("en")} ${name ? `labeled ${name}` : "without a label now"}.`);
}

function relabel(pairs) {
  past.push(pairs.map(([row]) => [row, given[row]]));
  put(pairs);
}

function put(pairs) {
  for (const [row, name] of pairs) given[row] = name;
  unsaved = true;
  element("undo").disabled = !past.length;
  if (element("color").value === "label") recolor();
  if (chosen >= 0) describe(chosen);
}

// Tables.

const cell = (value) => (/[",\r\n]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

function table(rows) {
  const lines = rows.map((row) => {
    const place = ra ? [ra[row], dec[row]].map((value) => (Number.isFinite(value) ? String(value) : "")) : ["", ""];
    return [String(row), nameOf(row), ...place, given[row]].map(cell).join(",");
  });
  return ["row,id,ra,dec,label", ...lines].join("\n") + "\n";
}

function save(name, rows) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table(rows)], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${name}: ${rows.length.toLocaleString("en")} rows.`);
}

function parsed(text) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const [letter, row] = [text[i], rows[rows.length - 1]];
    if (letter === '"' && quoted && text[i + 1] === '"') row[row.length - 1] += text[++i];
    else if (letter === '"') quoted = !quoted;
    else if (letter === "," && !quoted) row.push("");
    else if (letter === "\n" && !quoted) rows.push([""]);
    else if (letter !== "\r" || quoted) row[row.length - 1] += letter;
  }
  return rows.filter((row) => row.length > 1);
}

function load(text) {
  const [head = [], ...rows] = parsed(text);
  const [at, name, id] = ["row", "label", "id"].map((wanted) => head.indexOf(wanted));
  const right = (row) => Number(row[at]) in given && (id < 0 || row[id] === nameOf(Number(row[at])));
  if (at < 0 || name < 0 || !rows.every(right)) {
    say("This is no table of labels of these objects.");
    return;
  }
  relabel(rows.map((row) => [Number(row[at]), row[name]]));
  say(`${rows.length.toLocaleString("en")} labels loaded.`);
}

// Mouse.

let held = null; // where the mouse went down
let path = []; // of the lasso

const spot = (event) => {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

map.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  map.setPointerCapture(event.pointerId);
  const [x, y] = spot(event);
  held = { x, y, moved: false };
  if (lassoing || event.shiftKey) path = [[x, y]];
  hover(-1);
});

map.addEventListener("pointermove", (event) => {
  const [x, y] = spot(event);
  if (!held) {
    const row = pointedAt(x, y);
    map.style.cursor = row >= 0 ? "pointer" : "";
    hover(row);
    return;
  }
  if (path.length) {
    path.push([x, y]);
    redrawOverlay();
  } else if (held.moved || Math.hypot(x - held.x, y - held.y) > 3) {
    if (held.moved) move(x - held.x, y - held.y);
    held = { x, y, moved: true };
  }
});

map.addEventListener("pointerup", (event) => {
  if (!held) return;
  if (path.length > 2) selectInside(path);
  else if (!held.moved) choose(pointedAt(...spot(event)));
  held = null;
  path = [];
  redrawOverlay();
});

map.addEventListener("pointercancel", () => {
  held = null;
  path = [];
  redrawOverlay();
});

map.addEventListener("pointerleave", () => hover(-1));
map.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-Math.min(Math.max(event.deltaY, -200), 200) / 300), ...spot(event));
  hover(-1);
}, { passive: false });

// Keys.

function toggleLasso() {
  lassoing = !lassoing;
  element("lasso").setAttribute("aria-pressed", lassoing);
  map.classList.toggle("lasso", lassoing);
}

function toggleThumbnails() {
  if (!thumbnails) return;
  showingThumbnails = !showingThumbnails;
  element("pictures").setAttribute("aria-pressed", showingThumbnails);
  grid.clear();
  redraw();
}

const STEP = 60;
const KEYS = {
  ArrowLeft: () => move(STEP, 0),
  ArrowRight: () => move(-STEP, 0),
  ArrowUp: () => move(0, STEP),
  ArrowDown: () => move(0, -STEP),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  Home: showWhole,
  l: toggleLasso,
  p: toggleThumbnails,
  Escape: () => select([]),
  Enter: (event) => {
    choose(nearest(view.width / 2, view.height / 2, Infinity));
    if (event.shiftKey) select([...new Set([...rowsWhere((i) => selection[i]), chosen])]);
  },
};

map.addEventListener("keydown", (event) => {
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event);
});
map.addEventListener("focus", redrawOverlay);
map.addEventListener("blur", redrawOverlay);

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "0") label("");
  if (/^[1-9]$/.test(event.key)) label(labelInputs[event.key - 1].value.trim() || event.key);
});

// Controls.

element("lasso").addEventListener("click", toggleLasso);
element("pictures").addEventListener("click", toggleThumbnails);
element("closer").addEventListener("click", () => zoom(1.5));
element("farther").addEventListener("click", () => zoom(1 / 1.5));
element("whole").addEventListener("click", showWhole);
element("color").addEventListener("change", recolor);
element("clear").addEventListener("click", () => select([]));
element("save-selection").addEventListener("click", () => save("selection.csv", rowsWhere((i) => selection[i])));
element("save-labels").addEventListener("click", () => {
  save("labels.csv", rowsWhere((i) => given[i]));
  unsaved = false;
});
element("undo").addEventListener("click", () => {
  put(past.pop());
  say("Undone.");
});
element("load-labels").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) load(await file.text());
  event.target.value = "";
});
element("find").addEventListener("submit", (event) => {
  event.preventDefault();
  findName(event.target.elements.name.value);
});
element("cone").addEventListener("submit", (event) => {
  event.preventDefault();
  const number = (name) => (event.target.elements[name].value.trim() ? Number(event.target.elements[name].value) : NaN);
  findCone(number("ra"), number("dec"), number("radius"));
});
window.addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
dark.addEventListener("change", recolor);
new ResizeObserver(resize).observe(element("view"));

// Begin.

element("count").textContent =
  `${n.toLocaleString("en")} objects` +
  (pictured ? `; a random ${pictured.length.toLocaleString("en")} of them have thumbnails` : "") + ".";
element("pictures").hidden = !thumbnails;
element("cone").hidden = !ra;
const choices = [["density", "density"], ["label", "label given here"], ...columns.map(({ name }, k) => [String(k), name])];
element("color").append(...choices.map(([value, words]) => new Option(words, value)));
element("color").value = columns.length ? "0" : "density";
resize();
recolor();
