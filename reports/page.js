"use strict";
// What the script adds to a report: the page can be read without it. No library, no request.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  function element(name, attributes = {}, parent = null, text = null, space = null) {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  const shape = (name, attributes, parent, text = null) => element(name, attributes, parent, text, SVG);

  function button(text, action, parent, label = null) {
    const made = element("button", { type: "button" }, parent, text);
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", action);
    return made;
  }

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
    controls.hidden = false;
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
    const unit = key.startsWith("time:") ? "milliseconds a picture: median, bars to the middle half" : key === "macs" ? "MACs" : "parameters";
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
    for (const part of [one("#view"), plot, told]) part.hidden = false;
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

  // --- architectures --------------------------------------------------------------------------------------------------

  // Zoom by buttons, keys (+, -, 0, arrows), the wheel with Ctrl, and dragging.
  function makeZoom(figure) {
    const svg = one("svg", figure);
    const whole = svg.getAttribute("viewBox").split(/\s+/).map(Number);
    let [x, y, w, h] = whole;
    const show = () => svg.setAttribute("viewBox", [x, y, w, h].map((side) => side.toFixed(2)).join(" "));
    const move = (dx, dy) => {
      x = Math.min(Math.max(x + dx, whole[0]), whole[0] + whole[2] - w);
      y = Math.min(Math.max(y + dy, whole[1]), whole[1] + whole[3] - h);
      show();
    };
    const zoom = (factor, fx = 0.5, fy = 0.5) => {
      const next = Math.min(whole[2], Math.max(whole[2] / 16, w / factor)), ratio = next / w;
      const [dx, dy] = [(w - next) * fx, (h - h * ratio) * fy];
      [w, h] = [next, h * ratio];
      move(dx, dy);
    };
    const bar = element("div", { class: "bar" });
    figure.prepend(bar);
    button("+", () => zoom(1.4), bar, "Zoom in");
    button("−", () => zoom(1 / 1.4), bar, "Zoom out");
    button("Whole", () => zoom(1 / 64), bar);
    listenToZoom(one(".scroll", figure), svg, zoom, (fx, fy) => move(fx * w, fy * h));
  }

  function listenToZoom(frame, svg, zoom, pan) {
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Drawing: plus and minus zoom, 0 shows the whole, arrows move");
    const keys = {
      "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: () => zoom(1 / 64),
      ArrowLeft: () => pan(-0.1, 0), ArrowRight: () => pan(0.1, 0), ArrowUp: () => pan(0, -0.1), ArrowDown: () => pan(0, 0.1),
    };
    frame.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const at = svg.getBoundingClientRect();
      zoom(1.2 ** -Math.sign(event.deltaY), (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
    }, { passive: false });
    svg.addEventListener("pointermove", (event) => {
      if (!(event.buttons & 1) || event.pointerType === "touch") return;
      const at = svg.getBoundingClientRect();
      pan(-event.movementX / at.width, -event.movementY / at.height);
    });
  }

  function makeCopy(pre) {
    const told = button("Copy", async () => {
      try {
        await navigator.clipboard.writeText(pre.textContent);
        told.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(pre);
        told.textContent = "Selected: press Ctrl and C";
      }
      setTimeout(() => (told.textContent = "Copy"), 2000);
    });
    told.className = "copy";
    pre.before(told);
  }

  // --- the search, epoch by epoch -------------------------------------------------------------------------------------

  // The height of each epoch in an area that reports/evolution_of_search.py wrote, as a share.
  function heights(path) {
    const [, bottom] = path.match(/^M0 (\d+)/), found = [];
    let height = 0;
    for (const [, command, number] of path.matchAll(/([hV])(\d+)/g)) {
      if (command === "V") height = 1 - number / bottom;
      else for (let i = 0; i < number; i++) found.push(height);
    }
    return found;
  }

  function makeStrip(strip) {
    const svg = one("svg", strip), paths = all("path", svg), names = (strip.dataset.names ?? strip.parentElement.dataset.names).split("|");
    const sums = paths.map((path) => heights(path.getAttribute("d"))).reverse();
    const classes = paths.map((path) => path.getAttribute("class")).reverse();
    const count = svg.viewBox.baseVal.width, high = svg.viewBox.baseVal.height;
    const cursor = shape("path", { class: "cursor" }, svg);
    const bar = shape("svg", { class: "shares", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }, strip);
    const parts = classes.map((name) => shape("path", { class: name }, bar));
    const now = element("span", { class: "now" }, strip);
    return (epoch) => {
      const tops = sums.map((sum) => sum[epoch]), shares = tops.map((top, i) => top - (i ? tops[i - 1] : 0));
      const lead = shares.indexOf(Math.max(...shares));
      cursor.setAttribute("d", `M${Math.min(epoch + 0.5, count)} 0V${high}`);
      parts.forEach((part, i) => part.setAttribute("d", `M${1000 * (tops[i] - shares[i])} 0h${1000 * shares[i]}v10h${-1000 * shares[i]}z`));
      now.textContent = `${names[lead]} ${Math.round(100 * shares[lead])} %`;
    };
  }

  function makeEvolution(holder) {
    const epochs = holder.dataset.epochs.split(" "), differs = holder.dataset.differs.split(" ");
    const controls = element("div", { class: "controls" });
    holder.prepend(controls);
    const label = element("label", {}, controls, "epoch ");
    const slider = element("input", { type: "range", min: 0, max: epochs.length - 1, value: epochs.length - 1 }, label);
    let strips = null, timer = null;
    const show = () => {
      strips ??= all(".strip", holder).map(makeStrip);
      for (const set of strips) set(Number(slider.value));
      const other = differs[slider.value];
      told.textContent = `${epochs[slider.value]}${other ? `: ${other} choices are not those of the result` : ""}`;
    };
    const play = button("Play", () => {
      if (timer) return stop();
      if (slider.value === slider.max) slider.value = 0;
      play.textContent = "Stop";
      timer = setInterval(() => (slider.value === slider.max ? stop() : (slider.value++, show())), 250);
    }, controls);
    const stop = () => ((timer = clearInterval(timer)), (play.textContent = "Play"));
    const told = element("output", { "aria-live": "polite" }, controls, epochs.at(-1));
    slider.addEventListener("input", show);
  }

  // --- runs -----------------------------------------------------------------------------------------------------------

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    target.scrollIntoView();
  }

  function makeRuns() {
    const runs = all("details.run");
    if (!runs.length) return;
    const bar = element("div", { class: "bar" });
    one("#runs").after(bar);
    button("Open all", () => runs.forEach((run) => (run.open = true)), bar);
    button("Close all", () => runs.forEach((run) => (run.open = false)), bar);
  }

  all("table.sortable").forEach(makeSortable);
  makeOverview();
  all("figure.zoom").forEach(makeZoom);
  all("pre[data-copy]").forEach(makeCopy);
  all(".evolution").forEach(makeEvolution);
  makeRuns();
  addEventListener("hashchange", openTarget);
  openTarget();
})();
