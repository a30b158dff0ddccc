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
