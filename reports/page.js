// What the script adds to the parts of a page, and its start; overview.js stands before it in one script. The page can be
// read without it. No library, no request.
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
    const far = other === "0" ? ": the genotype of the result" : other ? `: ${other} choices are not those of the result` : "";
    told.textContent = `${epochs[slider.value]}${far}`;
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
