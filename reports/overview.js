"use strict";
// The overview: tables that sort, filters, and the view of error against cost. Stands before page.js in one script.
const FEW = 5; // rows that need no filters

// --- tables ---------------------------------------------------------------------------------------------------------

function valueOf(row, column) {
  const cell = row.cells[column];
  const told = cell.dataset.v ?? cell.textContent.trim();
  const amount = Number(told.replaceAll(",", ""));
  return told === "" || (!cell.dataset.v && told === "not given") ? null : Number.isNaN(amount) ? told : amount;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

// Rows without a value stay last, whichever way the others go; groups of rows are not mixed.
function sortRows(table, column, sign) {
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    const keyed = rows.map((row) => [valueOf(row, column), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  }
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const text = head.textContent;
    head.textContent = "";
    head.setAttribute("aria-sort", "none");
    button(text, () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      sortRows(table, column, sign);
    }, head);
  });
}

// --- overview: filters, and the view of error against cost ----------------------------------------------------------

function makeFilters(table, redraw) {
  const controls = one("#filters");
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("group"));
  const selects = all("select", controls);
  const apply = () => {
    const words = one("#find").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = selects.every((each) => !each.value || row.dataset[each.dataset.filter] === each.value);
      row.hidden = !(fits && words.every((word) => text.includes(word)));
    }
    for (const body of table.tBodies) {
      const group = one("tr.group", body);
      if (group) group.hidden = [...body.rows].every((row) => row === group || row.hidden);
    }
    one("#count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
    redraw();
  };
  one("#find").addEventListener("input", apply);
  for (const each of selects) each.addEventListener("change", apply);
  controls.hidden = rows.length < FEW;
  apply();
}

// The points that no other one beats, as reports/pareto.py finds them.
function paretoFront(points, higher) {
  const sign = higher ? -1 : 1;
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || sign * (a.y - b.y))) {
    const last = front.at(-1);
    if (!last || (last.x === point.x && last.y === point.y) || sign * point.y < sign * last.y) front.push(point);
  }
  return front;
}

function costsOf(group) {
  const times = group.devices.map((name, i) => [`time:${i}`, `milliseconds: ${name}`]);
  const known = (key) => group.rows.filter((row) => costOf(row, key) && row.error).length;
  const costs = [...times, ["macs", "MACs"], ["parameters", "parameters"]].filter(([key]) => known(key));
  const first = costs.find(([key]) => key.startsWith("time") && known(key) > 1) ?? costs.find(([key]) => key === "macs");
  return [costs, first?.[0]];
}

function costOf(row, key) {
  if (key.startsWith("time:")) return row.times[key.slice(5)] ?? null;
  return row[key] === null ? null : [row[key], row[key], row[key]];
}

function scaled(value) {
  const [factor, letter] = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]].find(([f]) => value >= f) ?? [1, ""];
  return `${Number((value / factor).toPrecision(3))}${letter}`;
}

const costText = (value, key) => (key.startsWith("time:") ? `${Number(value.toPrecision(3))} ms` : scaled(value));

function pointsOf(group, shown, key) {
  return group.rows.flatMap((row, index) => {
    const cost = costOf(row, key);
    if (!cost || !row.error || !shown(index)) return [];
    const [x, xLow, xHigh] = cost, [y, yLow, yHigh] = row.error;
    return [{ row, index, x, xLow, xHigh, y, yLow, yHigh }];
  });
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// A scale of numbers to pixels; costs that differ thirtyfold are shown by their logarithm.
function scale(low, high, from, to, log) {
  const f = log ? Math.log10 : (value) => value;
  const place = (value) => from + ((f(value) - f(low)) / (f(high) - f(low) || 1)) * (to - from);
  const powers = () => {
    const found = [];
    for (let p = Math.floor(f(low)); p <= f(high); p++) for (const m of [1, 2, 5]) found.push(m * 10 ** p);
    return found.filter((value) => value >= low && value <= high);
  };
  return { place, ticks: (count) => (log ? powers() : ticks(low, high, count)) };
}

function scales(points, higher, box) {
  const xs = points.flatMap((p) => [p.xLow, p.xHigh]), ys = points.flatMap((p) => [p.yLow, p.yHigh]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const log = x0 > 0 && x1 / x0 > 30, spare = (x1 - x0 || x1 || 1) * 0.06;
  const bottom = higher ? Math.max(0, y0 - (y1 - y0 || 0.1) * 0.1) : 0;
  const top = Math.min(1, y1 + (y1 - bottom || 0.1) * 0.08);
  return {
    x: log ? scale(x0 / 1.3, x1 * 1.3, box.left, box.right, true) : scale(x0 - spare, x1 + spare, box.left, box.right),
    y: scale(bottom, top, box.bottom, box.top),
  };
}

function drawAxes(svg, box, at, key, group) {
  for (const value of at.y.ticks(5)) {
    const y = at.y.place(value);
    shape("path", { class: "grid", d: `M${box.left} ${y}H${box.right}` }, svg);
    shape("text", { class: "tick", x: box.left - 6, y: y + 4, "text-anchor": "end" }, svg, `${Number((100 * value).toPrecision(4))} %`);
  }
  for (const value of at.x.ticks(box.right > 500 ? 8 : 4)) {
    const x = at.x.place(value);
    shape("path", { class: "grid", d: `M${x} ${box.top}V${box.bottom}` }, svg);
    const text = key.startsWith("time:") ? String(value) : scaled(value);
    shape("text", { class: "tick", x, y: box.bottom + 18, "text-anchor": "middle" }, svg, text);
  }
  const unit = key.startsWith("time:") ? "milliseconds (median and middle half)" : key === "macs" ? "MACs" : "parameters";
  shape("text", { class: "name", x: (box.left + box.right) / 2, y: box.bottom + 40, "text-anchor": "middle" }, svg, unit);
  shape("text", { class: "name", x: box.left, y: box.top - 10 }, svg, `${group.label}, ${group.higher ? "more" : "less"} is better (bars: 95 % interval)`);
}

function describe(point, key, group) {
  const [low, high] = [point.yLow, point.yHigh];
  const interval = low === point.y && high === point.y ? "no interval" : `${percent(low)} to ${percent(high)}`;
  return `${point.row.name}: ${group.label} ${percent(point.y)} (${interval}), ${costText(point.x, key)}`;
}

function drawPoint(svg, point, at, key, group, isFront, say) {
  const x = at.x.place(point.x), y = at.y.place(point.y), text = describe(point, key, group);
  const link = shape("a", { href: point.row.href, class: `point ${point.row.kind}${isFront ? " front" : ""}`, "data-row": point.index, "aria-label": text }, svg);
  shape("title", {}, link, text);
  const bars = `M${at.x.place(point.xLow)} ${y}H${at.x.place(point.xHigh)}M${x} ${at.y.place(point.yLow)}V${at.y.place(point.yHigh)}`;
  shape("path", { class: "bars", d: bars }, link);
  shape("circle", { class: "reach", cx: x, cy: y, r: 13 }, link);
  if (isFront) shape("circle", { class: "ring", cx: x, cy: y, r: 9 }, link);
  if (point.row.kind === "reference") shape("path", { class: "mark", d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` }, link);
  else shape("circle", { class: "mark", cx: x, cy: y, r: point.row.kind === "configuration" ? 3.5 : 5 }, link);
  for (const event of ["focus", "pointerenter"]) link.addEventListener(event, () => say(text));
}

// Names of the front where they cover no other name.
function drawNames(svg, front, at, box) {
  const taken = [];
  for (const point of front) {
    const name = point.row.name.length > 28 ? `${point.row.name.slice(0, 19)}…${point.row.name.slice(-8)}` : point.row.name;
    const width = name.length * 6.7, x = at.x.place(point.x), y = at.y.place(point.y);
    for (const [dx, dy] of [[12, -10], [12, 18], [-12 - width, -10], [-12 - width, 18]]) {
      const place = [x + dx, y + dy - 11, x + dx + width, y + dy + 3];
      const free = taken.every((t) => place[2] < t[0] || place[0] > t[2] || place[3] < t[1] || place[1] > t[3]);
      if (free && place[0] >= box.left && place[2] <= box.right + 8 && place[1] >= box.top) {
        shape("text", { class: "label", x: x + dx, y: y + dy }, svg, name);
        taken.push(place);
        break;
      }
    }
  }
}

function drawView(group, key, shown, holder, say) {
  const points = pointsOf(group, shown, key), width = Math.max(300, holder.clientWidth), height = width < 500 ? 340 : 420;
  const box = { left: 62, right: width - 14, top: 30, bottom: height - 52 };
  holder.textContent = "";
  if (!points.length) return void element("p", { class: "lacking" }, holder, "No architecture that is shown has both a figure and this cost.");
  const label = `${group.title} against cost: ${points.length} architectures`;
  const svg = shape("svg", { role: "group", "aria-label": label, viewBox: `0 0 ${width} ${height}`, width, height }, holder);
  const at = scales(points, group.higher, box), front = paretoFront(points, group.higher);
  drawAxes(svg, box, at, key, group);
  const steps = front.map((p, i) => (i ? `H${at.x.place(p.x)}V${at.y.place(p.y)}` : `M${at.x.place(p.x)} ${at.y.place(p.y)}`));
  shape("path", { class: "steps", d: steps.join("") }, svg);
  for (const point of points) drawPoint(svg, point, at, key, group, front.includes(point), say);
  drawNames(svg, front, at, box);
}

function makeView(groups, shown) {
  const [group, cost, plot, told] = ["#group", "#cost", "#plot", "#told"].map((id) => one(id));
  const draw = () => {
    const chosen = groups[group.value];
    drawView(chosen, cost.value, (row) => shown(Number(group.value), row), plot, (text) => (told.textContent = text));
  };
  const fill = () => {
    const [costs, first] = costsOf(groups[group.value]);
    cost.textContent = "";
    for (const [key, text] of costs) element("option", { value: key }, cost, text);
    if (first) cost.value = first;
    draw();
  };
  for (const part of [one("#view"), plot, told, one("#marks")]) part.hidden = false;
  group.parentElement.hidden = groups.length < 2;
  one("#stills").hidden = true;
  group.addEventListener("change", fill);
  cost.addEventListener("change", draw);
  let width = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth !== width) [width] = [plot.clientWidth, draw()];
  }).observe(plot);
  fill();
  return draw;
}

function makeOverview() {
  const table = one("#table");
  if (!table) return;
  const { groups } = JSON.parse(one("#architectures").textContent);
  const rows = [...table.tBodies].map((body) => [...body.rows].filter((row) => !row.classList.contains("group")));
  const redraw = makeView(groups, (group, row) => !rows[group][row].hidden);
  makeFilters(table, redraw);
}
