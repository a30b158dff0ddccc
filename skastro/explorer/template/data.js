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
