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
