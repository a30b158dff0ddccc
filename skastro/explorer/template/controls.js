// Mouse.

let held = null; // where the mouse went down
let path = []; // of the lasso

const spot = (event) => {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function letGo() {
  held = null;
  path = [];
  redrawOverlay();
}

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
  if (path.some(([x, y]) => Math.hypot(x - held.x, y - held.y) > 3)) selectInside(path);
  else if (!held.moved) choose(pointedAt(...spot(event)));
  letGo();
});

map.addEventListener("pointercancel", letGo);

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
  Escape: () => {
    letGo();
    select([]);
  },
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
