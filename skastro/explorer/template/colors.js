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
const unpacked = (color) => [color & 255, (color >> 8) & 255, (color >> 16) & 255];
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
