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
    const [x, y] = [shiftX + column * CELL, shiftY + line * CELL];
    base.fillStyle = css(unpacked(colors[i]));
    base.fillRect(...[x + 1, y + 1, CELL - 2, CELL - 2].map((value) => value * view.ratio));
    drawThumbnail(base, i, ...[x + 3, y + 3, CELL - 6].map((value) => value * view.ratio));
  }
}

// A ring around a point, or a frame around its thumbnail; with a rim, to be seen on dark and on light.
function ring(row, size, width, color) {
  const [column, line, shiftX, shiftY] = cellOf(across(row), down(row));
  overlay.beginPath();
  if (showingThumbnails && grid.get(cellKey(column, line)) === row) {
    overlay.rect(shiftX + column * CELL + 1, shiftY + line * CELL + 1, CELL - 2, CELL - 2);
  } else overlay.arc(across(row), down(row), size, 0, 2 * Math.PI);
  for (const [rim, shade] of [[2, styled("--back")], [0, color]]) {
    overlay.lineWidth = width + rim;
    overlay.strokeStyle = shade;
    overlay.stroke();
  }
}

function drawOverlay() {
  overlay.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  overlay.clearRect(0, 0, view.width, view.height);
  const ink = styled("--ring");
  for (const row of alike) ring(row, 6, 2, styled("--focus"));
  if (hovered >= 0) ring(hovered, 7, 2, ink);
  if (chosen >= 0) ring(chosen, 9, 3, ink);
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
