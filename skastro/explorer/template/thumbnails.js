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
    if (!drawing) context.moveTo(left - context.lineWidth, top);
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
