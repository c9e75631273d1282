// A histogram with sliders: good images upwards, defects downwards, thresholds across. Texts come
// as data and are set as text, never as markup. Whatever is moved is told to the server at once.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 760, HEIGHT = 300, LEFT = 12, RIGHT = 748, TOP = 26, BOTTOM = 266;
const MIDDLE = (TOP + BOTTOM) / 2;

function made(kind, attributes, text) {
  const node = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function element(kind, className, text) {
  const node = document.createElement(kind);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function place(data, value) {
  return LEFT + ((value - data.low) / (data.high - data.low)) * (RIGHT - LEFT);
}

function bars(heights, up) {
  if (!heights.some((height) => height > 0)) return "";
  const step = (RIGHT - LEFT) / heights.length, half = (BOTTOM - TOP) / 2;
  let path = `M${LEFT} ${MIDDLE}`;
  heights.forEach((height, n) => {
    path += `V${(MIDDLE + (up ? -1 : 1) * half * height).toFixed(1)}`;
    path += `H${(LEFT + step * (n + 1)).toFixed(1)}`;
  });
  return `${path}V${MIDDLE}Z`;
}

function drawing(data) {
  const svg = made("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": data.says });
  const stripes = made("pattern", { id: "stripes", width: 7, height: 7,
    patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  stripes.append(made("rect", { width: 7, height: 7, class: "under" }));
  stripes.append(made("rect", { width: 3.5, height: 7, class: "bad" }));
  svg.append(made("defs", {}));
  svg.firstChild.append(stripes);
  svg.append(made("path", { class: "good", d: bars(data.bars.good, true) }));
  svg.append(made("path", { class: "striped", fill: "url(#stripes)", d: bars(data.bars.defects, false) }));
  svg.append(made("path", { class: "other", d: bars(data.bars.unlabelled, true) }));
  svg.append(made("path", { class: "axis", d: `M${LEFT} ${MIDDLE}H${RIGHT}M${LEFT} ${BOTTOM}H${RIGHT}` }));
  for (const [value, text] of data.ticks) {
    const x = place(data, value).toFixed(1);
    svg.append(made("path", { class: "axis", d: `M${x} ${BOTTOM}V${BOTTOM + 5}` }));
    svg.append(made("text", { x, y: BOTTOM + 20, "text-anchor": "middle", class: "quiet" }, text));
  }
  svg.append(made("text", { x: RIGHT, y: TOP - 8, "text-anchor": "end", class: "side" },
    `▲ good: ${data.totals.good.toLocaleString("en")}`));
  svg.append(made("text", { x: RIGHT, y: BOTTOM - 8, "text-anchor": "end", class: "side" },
    `▼ defects (striped): ${data.totals.defects.toLocaleString("en")}`));
  if (data.totals.unlabelled) {
    svg.append(made("text", { x: RIGHT, y: TOP + 14, "text-anchor": "end", class: "side" },
      `▲ without a label (dashed line): ${data.totals.unlabelled.toLocaleString("en")}`));
  }
  svg.append(made("g", { class: "cuts" }));
  return svg;
}

function drawCuts(root, data) {
  const group = root.querySelector(".cuts");
  group.replaceChildren();
  data.lines.forEach((value, n) => {
    if (value < data.low || value > data.high) return;
    const x = place(data, value).toFixed(1);
    group.append(made("line", { class: "cut", x1: x, x2: x, y1: TOP - 6, y2: BOTTOM }));
    if (data.lines.length <= 4) {
      group.append(made("text", { x: Number(x) + 5, y: BOTTOM - 8 - 20 * n, class: "side" },
        String(Number(value.toPrecision(6)))));
    }
  });
}

function slider(one, send) {
  const row = element("div", "slider");
  const name = element("label", "", one.label);
  const range = element("input"), exact = element("input");
  const id = `threshold-${one.number}`;
  Object.assign(range, { type: "range", min: one.low, max: one.high, step: one.step, id });
  Object.assign(exact, { type: "number", step: "any", id: `${id}-exact` });
  name.htmlFor = id;
  exact.setAttribute("aria-label", `${one.label}, as a number`);
  range.value = exact.value = one.value;
  range.addEventListener("input", () => { exact.value = range.value; send(one.number, Number(range.value)); });
  exact.addEventListener("change", () => {
    if (exact.value === "" || !Number.isFinite(Number(exact.value))) return;
    range.value = exact.value;
    send(one.number, Number(exact.value));
  });
  const back = element("button", "", "reset");
  back.type = "button";
  back.setAttribute("aria-label", `reset ${one.label}`);
  back.addEventListener("click", () => { range.value = exact.value = one.own; send(one.number, null); });
  row.append(name, range, exact, back);
  return row;
}

function tell(root, data) {
  for (const one of data.figures) {
    const card = root.querySelector(`[data-figure="${one.key}"]`);
    card.querySelector("strong").textContent = one.value;
    card.querySelector("small").textContent = one.detail;
  }
  root.querySelector(".status").textContent = data.status;
}

function build(root, data, setStateValue) {
  const moves = { ...data.moves };
  const send = (number, to) => {
    if (to === null) delete moves[number]; else moves[number] = to;
    setStateValue("moves", { token: data.token, moves: { ...moves } });
  };
  const figures = element("div", "figures");
  for (const one of data.figures) {
    const card = element("div", `figure ${one.key}`);
    card.dataset.figure = one.key;
    card.append(element("span", "", one.label), element("strong"), element("small"));
    figures.append(card);
  }
  const status = element("p", "status");
  status.setAttribute("role", "status");
  root.replaceChildren(drawing(data), ...data.sliders.map((one) => slider(one, send)), figures, status);
  root.dataset.token = data.token;
}

// Streamlit tells colours, not whether they are dark: those of the marks follow the background.
function isDark(root) {
  const probe = element("span");
  probe.style.color = "var(--st-background-color)";
  root.append(probe);
  const [red, green, blue] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  probe.remove();
  return 0.3 * red + 0.59 * green + 0.11 * blue < 128;
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".thresholds");
  root.classList.toggle("dark", isDark(root));
  if (root.dataset.token !== data.token) build(root, data, setStateValue);
  drawCuts(root, data);
  tell(root, data);
}
