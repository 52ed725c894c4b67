// Labelled range inputs and choices, and small charts.

const shown = (v, digits = 3) => (v === 0 ? "0" : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : Number(v.toPrecision(digits)).toString());

// A range input with its label and its value in words; `change` is told of each move.
function slider(parent, { id, title, min, max, step, start, words }, change) {
  const row = document.createElement("div"), label = document.createElement("label");
  const input = document.createElement("input"), output = document.createElement("output");
  row.className = "explorer-row";
  Object.assign(label, { htmlFor: id, textContent: title });
  Object.assign(input, { id, type: "range", min, max, step });
  output.htmlFor = id;
  const say = () => {
    output.textContent = words(+input.value);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const set = (to) => {
    input.value = to;
    say();
  };
  set(start);
  input.addEventListener("input", () => {
    say();
    change(+input.value);
  });
  row.append(label, input, output);
  parent.append(row);
  return { input, set };
}

function choice(parent, { id, title, options }, change) {
  const row = document.createElement("div"), label = document.createElement("label"), select = document.createElement("select");
  row.className = "explorer-row";
  Object.assign(label, { htmlFor: id, textContent: title });
  select.id = id;
  options.forEach((words, index) => select.add(new Option(words, index)));
  select.addEventListener("change", () => change(+select.value));
  row.append(label, select);
  parent.append(row);
  return select;
}

// Lines into an SVG of 360 x 220: [{kind, points: [{at, value}]}] with values of 0 to 1.
function chart(svg, lines, { end, title }) {
  const left = 34, right = 350, top = 10, bottom = 180, step = roundUp(end / 6);
  const ticks = Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step);
  const x = (at) => left + ((right - left) * at) / end, y = (v) => bottom - (bottom - top) * v;
  const parts = [0, 0.25, 0.5, 0.75, 1].map((v) => `<path class="axis" d="M${left} ${y(v)}H${right}"/><text x="${left - 5}" y="${y(v) + 4}" text-anchor="end">${v}</text>`);
  for (const at of ticks) parts.push(`<text x="${x(at)}" y="${bottom + 16}" text-anchor="middle">${shown(at)}</text>`);
  parts.push(`<text x="${(left + right) / 2}" y="${bottom + 34}" text-anchor="middle">${title}</text>`);
  for (const { kind, points } of lines) parts.push(`<path class="${kind}" d="M${points.map((one) => `${x(Math.min(one.at, end)).toFixed(1)} ${y(one.value).toFixed(1)}`).join("L")}"/>`);
  svg.innerHTML = parts.join("");
}

// Where a curve first comes to a level, by linear interpolation; null: nowhere.
function crossing(points, level) {
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    if ((a.value - level) * (b.value - level) <= 0 && a.value !== b.value) return a.at + ((level - a.value) / (b.value - a.value)) * (b.at - a.at);
  }
  return null;
}
