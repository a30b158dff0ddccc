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
