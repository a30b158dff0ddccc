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
